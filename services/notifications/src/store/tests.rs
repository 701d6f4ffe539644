use ::domain::messages::capital_calls::{CallLineChange, InvestorChange, LineStatus, LineTiming};
use ::domain::messages::notifications::NoticeKind;
use ::domain::{Amount, Currency};
use chassis::{Context, Database, clock::Clock};

use super::*;

fn usd(amount: i128) -> Amount {
    "USD".parse::<Currency>().unwrap().from_minor(amount)
}

fn line(version: i64, outstanding: i128) -> Seen<CallLine> {
    let state = CallLine {
        id: Uuid::from_u128(1),
        version,
        created_at: DateTime::UNIX_EPOCH,
        call_id: Uuid::from_u128(2),
        fund_id: Uuid::from_u128(3),
        fund_type: "buyout".into(),
        investor_id: Uuid::from_u128(4),
        currency: "USD".parse().unwrap(),
        amount: usd(100),
        impact_on_unfunded: usd(-100),
        amendment: 0,
        disposition: Default::default(),
        paid: usd(100 - outstanding),
        unapplied: usd(0),
        charges: usd(0),
        outstanding: usd(outstanding),
        last_paid_on: None,
        reference: String::new(),
        interest_paid: usd(0),
        interest_due: usd(0),
        closing_id: None,
        default_interest: None,
        failure_notice: None,
        covered: vec![],
        default: None,
        cured_on: None,
        instructions: None,
        due_on: "2026-03-31".parse().unwrap(),
        issued_on: "2026-03-01".parse().unwrap(),
        grace_days: 0,
        timezone: "UTC".into(),
        purposes: vec![],
        status: LineStatus::Open,
        timing: LineTiming::NotDue,
    };
    Seen { state, change: CallLineChange::Issued, epoch: 1, context: Context::default() }
}

#[tokio::test]
async fn what_is_due_is_taken_once_and_only_while_something_is_outstanding() {
    let url = testkit::database::fresh("notifications").await;
    let clock = Clock::default();
    clock.set_offset(400 * 86_400);
    let (database, _) = Database::connect("notifications", &url, "development", clock.clone()).await.unwrap();
    let mut tx = database.begin().await.unwrap();
    let id = Uuid::from_u128(1);
    assert_eq!(keep_lines(&mut tx, &[line(2, 0)]).await.unwrap(), [id], "new to this service");
    assert!(keep_lines(&mut tx, &[line(1, 100)]).await.unwrap().is_empty(), "an older version is ignored");
    let investor = Investor {
        id: Uuid::from_u128(4),
        version: 1,
        created_at: DateTime::UNIX_EPOCH,
        name: "LP".into(),
        email: Some("a@b.example".into()),
        investor_type: None,
        status: "active".into(),
    };
    keep_investors(&mut tx, &[Seen { state: investor, change: InvestorChange::Registered, epoch: 1, context: Context::default() }])
        .await
        .unwrap();
    let schedule = |rule: &str, kind| (id, DateTime::UNIX_EPOCH, Schedule { rule: rule.into(), kind, on: "2026-03-24".parse().unwrap() });
    let later = (
        id,
        tx.now() + chrono::Days::new(1),
        Schedule { rule: "overdue".into(), kind: NoticeKind::Overdue, on: "2026-04-01".parse().unwrap() },
    );
    let all = [schedule("issued", NoticeKind::CapitalCall), schedule("due-7", NoticeKind::Reminder), later];
    add_schedules(&mut tx, &all).await.unwrap();
    add_schedules(&mut tx, &all).await.unwrap();
    let rules = |notices: &[Notice]| notices.iter().map(|notice| notice.rule.clone()).collect::<Vec<_>>();
    // nothing is outstanding: the call is told, nobody is reminded
    let (first, more) = take_due(&mut tx, 2).await.unwrap();
    assert!(more, "as many were looked at as were asked for");
    assert_eq!(rules(&first), ["issued"]);
    assert_eq!((first[0].email.as_deref(), kind_name(&first[0])), (Some("a@b.example"), "capital call".to_owned()));
    // the payment bounced: the reminder is due again, once
    keep_lines(&mut tx, &[line(3, 100)]).await.unwrap();
    let (second, more) = take_due(&mut tx, 10).await.unwrap();
    assert!(!more);
    assert_eq!((rules(&second), second[0].outstanding), (vec!["due-7".to_owned()], usd(100)));
    assert!(take_due(&mut tx, 10).await.unwrap().0.is_empty());
    // paid and re-opened before anything more came due: nothing was silenced
    keep_lines(&mut tx, &[line(4, 0)]).await.unwrap();
    keep_lines(&mut tx, &[line(5, 100)]).await.unwrap();
    clock.set_offset(402 * 86_400);
    tx.commit().await.unwrap();
    let mut tx = database.begin().await.unwrap();
    assert_eq!(rules(&take_due(&mut tx, 10).await.unwrap().0), ["overdue"]);

    add_deliveries(&mut tx, &first).await.unwrap();
    add_deliveries(&mut tx, &first).await.unwrap();
    tx.commit().await.unwrap();
    // the clock is set back: what is due by the system's own time waits no longer for that
    clock.set_offset(0);
    let mut tx = database.begin().await.unwrap();
    let lease = tx.system_now() + chrono::TimeDelta::seconds(60);
    let claimed = claim_deliveries(&mut tx, 10, lease).await.unwrap();
    assert_eq!((claimed.len(), claimed[0].recipient.as_str(), claimed[0].attempts), (1, "a@b.example", 1));
    assert!(claim_deliveries(&mut tx, 10, lease).await.unwrap().is_empty(), "claimed mails are left alone");
    let now = tx.now();
    record_delivery(&mut tx, claimed[0].notice.id, Some("refused"), Some(now)).await.unwrap();
    assert_eq!(claim_deliveries(&mut tx, 10, lease).await.unwrap()[0].attempts, 2);
    record_delivery(&mut tx, claimed[0].notice.id, None, None).await.unwrap();
    let sent: bool = sqlx::query_scalar("select sent_at is not null and error is null and due_at is null from deliveries")
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    assert!(sent);
}
