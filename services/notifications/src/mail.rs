//! Mail: sends notices by SMTP, with an id derived from the notice, so that a mailbox recognises a
//! second copy. A crash between the server's acceptance and our record sends a second copy.

use std::time::Duration;

use ::domain::messages::capital_calls::PinnedInstructions;
use ::domain::messages::notifications::Notice;
use chassis::{Courier, Errand, Fault, Tx};
use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use crate::store::{self, Delivery};

/// Attempts before a mail is given up; with the pauses below, about a day.
const ATTEMPTS_MAX: i32 = 30;
/// A claimed mail is left alone by other replicas for so long.
const LEASE: Duration = Duration::from_secs(60);
/// Most mails claimed at once: as many as are sent at once, so that the lease covers each.
const CLAIM_MAX: i64 = 4;

/// The errand that sends mail.
pub struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Mail {
    /// Mail as `SMTP_URL` and `MAIL_FROM` say; none when `SMTP_URL` is not set.
    pub fn from_environment() -> Result<Option<Mail>, String> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let Some(url) = set("SMTP_URL") else { return Ok(None) };
        let from = set("MAIL_FROM").ok_or("SMTP_URL is set but MAIL_FROM is not; see .env.example")?;
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(&url).map_err(|error| format!("SMTP_URL: {error}"))?.build();
        let from = from.parse().map_err(|error| format!("MAIL_FROM: {error}"))?;
        Ok(Some(Mail { transport, from }))
    }

    fn message(&self, delivery: &Delivery) -> Result<Message, String> {
        let Notice { id, line_id, amount, outstanding, currency, due_on, reference, instructions, .. } = &delivery.notice;
        let currency = currency.code();
        let to = delivery.recipient.parse().map_err(|error| format!("recipient: {error}"))?;
        // never the account itself: who can change a mail on its way could change it
        let pay_to = instructions.as_ref().map_or_else(String::new, |PinnedInstructions { account, hash, .. }| {
            format!("Pay to:      the account ending in {}, as you have it on file\nCheck:       {hash}\n", account.trim_start_matches('*'))
        });
        let text = format!(
            "Capital call line {line_id}\n\nAmount:      {amount} {currency}\nOutstanding: {outstanding} {currency}\nDue on:      {due_on}\nReference:   {reference}\n{pay_to}"
        );
        Message::builder()
            .from(self.from.clone())
            .to(to)
            .message_id(Some(format!("<{id}@tranche>")))
            .subject(format!("{}: {outstanding} {currency} due on {due_on}", store::kind_name(&delivery.notice)))
            .body(text)
            .map_err(|error| error.to_string())
    }
}

impl Errand for Mail {
    type Item = Delivery;
    type Outcome = Result<(), String>;
    const AT_ONCE: usize = 4;

    async fn claim(&self, tx: &mut Tx) -> Result<Vec<Delivery>, Fault> {
        let lease = tx.system_now() + LEASE;
        store::claim_deliveries(tx, CLAIM_MAX, lease).await
    }

    async fn run(&self, _: &Courier, delivery: &Delivery) -> Result<(), String> {
        let message = self.message(delivery)?;
        self.transport.send(message).await.map(|_| ()).map_err(|error| error.to_string())
    }

    async fn record(&self, tx: &mut Tx, done: Vec<(Delivery, Result<(), String>)>) -> Result<(), Fault> {
        for (delivery, outcome) in done {
            let error = outcome.err();
            let pause = Duration::from_secs(1 << delivery.attempts.clamp(0, 12));
            let again_at = (error.is_some() && delivery.attempts < ATTEMPTS_MAX).then(|| tx.system_now() + pause);
            store::record_delivery(tx, delivery.notice.id, error.as_deref(), again_at).await?;
        }
        Ok(())
    }
}
