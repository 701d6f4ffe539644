//! A bank that is not ours: mock-bank (PyPI) takes payment orders, moves its own clock, and says in camt files what has come and gone.
//!
//! It books the side of whoever sends it an order. So what is paid by pain.001 leaves the investor's account there, and the test brings
//! it to the fund's account as another bank would (`/_mock/credits`); what is collected by pain.008 the bank books on the fund's
//! account by itself, and takes it back by itself.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::process::{Process, free_port};
use testkit::{Client, Stack};
use uuid::Uuid;

use crate::office::{Office, assert_sums, id, items, lines};
use crate::python::python;

const VERSION: &str = "0.9.0";
const WHEEL_HASH: &str = "3a93dc123fc711c14d0dda1e8bf987f4d880fad056becb463fc016e0601499f4";
/// A Monday: nothing of the test lies on a weekend.
const MORNING: &str = "2026-11-02T09:00";
const FUND: &str = "DE89370400440532013000";
const INVESTORS: [&str; 4] = ["GB29NWBK60161331926819", "FR1420041010050500013M02606", "NL91ABNA0417164300", "BE68539007547034"];

/// A bank of its own for one test; it ends with this.
struct Bank {
    _process: Process,
    http: reqwest::Client,
    address: String,
}

/// What the bank has written: its type, whose account it is about, and the document.
struct Letter {
    kind: String,
    account: String,
    document: String,
}

/// One payment order.
struct Order<'a> {
    payer: &'a str,
    name: &'a str,
    payee: &'a str,
    end_to_end_id: &'a str,
    amount: &'a str,
    remittance: &'a str,
}

impl Bank {
    async fn start(stack: &Stack) -> Bank {
        let port = free_port().unwrap();
        let mut command = Command::new(python("mock-bank", VERSION, WHEEL_HASH));
        command.args(["-m", "mockbank", "--host", "127.0.0.1", "--clock", MORNING, "--quiet", "--port", &port.to_string()]);
        let process = Process::start("mock-bank", &mut command, &stack.folder().join("mock-bank.log")).unwrap();
        let bank = Bank { _process: process, http: reqwest::Client::new(), address: format!("http://127.0.0.1:{port}") };
        let health = || async { bank.http.get(format!("{}/_mock/health", bank.address)).send().await.is_ok() };
        assert!(testkit::wait::until(Duration::from_secs(30), health).await, "{}", bank._process.last_output());
        for (account, iban) in [("FUND", FUND)].into_iter().chain(["A", "B", "C", "D"].into_iter().zip(INVESTORS)) {
            let account = json!({"id": account, "iban": iban, "name": account, "currency": "USD", "balance": 100_000_000});
            bank.ask("POST", "/_mock/accounts", account.to_string()).await;
        }
        bank
    }

    async fn ask(&self, method: &str, path: &str, body: String) -> Value {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.address)).body(body);
        let response = request.send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Sends a file of payment orders or collections; all of it is accepted.
    async fn order(&self, file: String) {
        let answer = self.ask("POST", "/payments", file).await;
        assert_eq!(answer["status"], "ACCP", "{answer:#}");
    }

    /// From now on the bank takes back what this account pays, so many business days after it was settled.
    async fn returns_later(&self, account: &str, days: u8, reason: &str) {
        let change = json!({"behaviour": "return-later", "parameters": {"days": days, "reason": reason}});
        self.ask("PATCH", &format!("/_mock/accounts/{account}"), change.to_string()).await;
    }

    /// Lets days go by.
    async fn advance(&self, days: u8) {
        self.ask("POST", &format!("/_mock/advance?days={days}"), String::new()).await;
    }

    /// Takes out of the mailbox what has come since the last time.
    async fn letters(&self) -> Vec<Letter> {
        let mail = self.ask("GET", "/_mock/mailbox", String::new()).await;
        let text = |letter: &Value, field: &str| letter[field].as_str().unwrap_or_default().to_owned();
        let letter = |letter| Letter { kind: text(letter, "type"), account: text(letter, "account"), document: text(letter, "body") };
        mail.as_array().unwrap().iter().map(letter).collect()
    }

    /// Brings what an order has paid to the fund's account, on which the bank books nothing for an order of another account.
    async fn bring(&self, order: &Order<'_>, wrap: u8) {
        let paid = self.ask("GET", &format!("/_mock/payments/{}", order.end_to_end_id), String::new()).await;
        assert_eq!((&paid["creditor_iban"], paid["booked_at"].is_string()), (&json!(FUND), true), "{paid:#}");
        let credit = json!({
            "account": "FUND", "amount": paid["amount"], "end_to_end_id": order.end_to_end_id, "note": order.remittance, "wrap": wrap,
            "debtor": {"name": order.name, "iban": order.payer},
        });
        self.ask("POST", "/_mock/credits", credit.to_string()).await;
    }
}

/// The documents of a kind about an account.
fn of<'a>(letters: &'a [Letter], kind: &str, account: &str) -> Vec<&'a str> {
    let wanted = |letter: &&Letter| letter.kind.starts_with(kind) && letter.account == account;
    letters.iter().filter(wanted).map(|letter| letter.document.as_str()).collect()
}

impl Order<'_> {
    /// A pain.001 in the older or the newer of the versions that the bank takes.
    fn pain_001(&self, version: &str) -> String {
        let Order { payer, name, payee, end_to_end_id, amount, remittance } = self;
        let (on, bic) = match version {
            "03" => ("<ReqdExctnDt>2026-11-02</ReqdExctnDt>", "BIC"),
            _ => ("<ReqdExctnDt><Dt>2026-11-02</Dt></ReqdExctnDt>", "BICFI"),
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:pain.001.001.{version}\"><CstmrCdtTrfInitn>\
             <GrpHdr><MsgId>M-{end_to_end_id}</MsgId><CreDtTm>2026-11-02T08:00:00</CreDtTm><NbOfTxs>1</NbOfTxs><CtrlSum>{amount}</CtrlSum>\
             <InitgPty><Nm>{name}</Nm></InitgPty></GrpHdr><PmtInf><PmtInfId>P</PmtInfId><PmtMtd>TRF</PmtMtd>{on}<Dbtr><Nm>{name}</Nm></Dbtr>\
             <DbtrAcct><Id><IBAN>{payer}</IBAN></Id></DbtrAcct><DbtrAgt><FinInstnId><{bic}>MOCKNL2A</{bic}></FinInstnId></DbtrAgt>\
             <CdtTrfTxInf><PmtId><EndToEndId>{end_to_end_id}</EndToEndId></PmtId><Amt><InstdAmt Ccy=\"USD\">{amount}</InstdAmt></Amt>\
             <Cdtr><Nm>Payee</Nm></Cdtr><CdtrAcct><Id><IBAN>{payee}</IBAN></Id></CdtrAcct>\
             <RmtInf><Ustrd>{remittance}</Ustrd></RmtInf></CdtTrfTxInf></PmtInf></CstmrCdtTrfInitn></Document>"
        )
    }

    /// A pain.008 by which the payee collects what the order would pay.
    fn pain_008(&self) -> String {
        let Order { payer, name, payee, end_to_end_id, amount, remittance } = self;
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:pain.008.001.08\"><CstmrDrctDbtInitn>\
             <GrpHdr><MsgId>M-{end_to_end_id}</MsgId><CreDtTm>2026-11-02T08:00:00</CreDtTm><NbOfTxs>1</NbOfTxs><CtrlSum>{amount}</CtrlSum>\
             <InitgPty><Nm>Payee</Nm></InitgPty></GrpHdr><PmtInf><PmtInfId>P</PmtInfId><PmtMtd>DD</PmtMtd>\
             <ReqdColltnDt>2026-11-03</ReqdColltnDt><Cdtr><Nm>Payee</Nm></Cdtr><CdtrAcct><Id><IBAN>{payee}</IBAN></Id></CdtrAcct>\
             <CdtrAgt><FinInstnId><BICFI>MOCKNL2A</BICFI></FinInstnId></CdtrAgt>\
             <DrctDbtTxInf><PmtId><EndToEndId>{end_to_end_id}</EndToEndId></PmtId><InstdAmt Ccy=\"USD\">{amount}</InstdAmt>\
             <DrctDbtTx><MndtRltdInf><MndtId>MANDATE</MndtId><DtOfSgntr>2026-01-02</DtOfSgntr></MndtRltdInf></DrctDbtTx>\
             <DbtrAgt><FinInstnId><BICFI>MOCKNL2A</BICFI></FinInstnId></DbtrAgt><Dbtr><Nm>{name}</Nm></Dbtr>\
             <DbtrAcct><Id><IBAN>{payer}</IBAN></Id></DbtrAcct><RmtInf><Ustrd>{remittance}</Ustrd></RmtInf></DrctDbtTxInf></PmtInf>\
             </CstmrDrctDbtInitn></Document>"
        )
    }
}

async fn upload(client: &Client, file: &str) -> testkit::Reply {
    let key = Uuid::now_v7().to_string();
    client.send("POST", "/bank-statements?file_name=from-the-bank.xml", Some(&key), Some(file.as_bytes().to_vec())).await.unwrap()
}

/// Uploads the documents as the bank wrote them; returns how many entries became what, in all.
async fn import(office: &Office, documents: &[&str]) -> Vec<(&'static str, i64)> {
    let mut counts = ["known", "pending", "matched", "suggested", "unmatched", "returned", "information"].map(|field| (field, 0));
    for document in documents {
        let import = upload(&office.treasurer, document).await.expect(201);
        assert_eq!((&import["left"], &import["discrepancies"]), (&json!(0), &json!([])), "{import:#}");
        counts.iter_mut().for_each(|(field, count)| *count += import[*field].as_i64().unwrap());
    }
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

#[tokio::test]
async fn what_a_live_bank_settles_pays_its_line_once_and_what_it_takes_back_later_opens_it_again() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let bank = Bank::start(&stack).await;
    let (fund, _, call) = office.open_call(&stack, 4, "400.00").await;
    office.admin.post(&format!("/funds/{}/bank-accounts", fund.id), json!({"account": FUND})).await.expect(201);
    let texts: Vec<String> = lines(&call).iter().map(|line| format!("capital call, your reference {}", printed(line))).collect();
    let ids = ["CALL-1-A", "CALL-1-B", "CALL-1-C", "CALL-1-D"];
    let order = |place: usize| Order {
        payer: INVESTORS[place],
        name: "Somebody",
        payee: FUND,
        end_to_end_id: ids[place],
        amount: "100.00",
        remittance: &texts[place],
    };
    let views = async || {
        let mut views = Vec::new();
        for line in lines(&call) {
            views.push(office.auditor.get(&format!("/call-lines/{}", id(line, "id"))).await.expect(200));
        }
        views
    };
    let open = views().await;
    // three pay by pain.001, from the fourth the fund collects; of two of them the bank takes it back later
    bank.returns_later("C", 3, "AC04").await;
    bank.returns_later("D", 2, "MD06").await;
    for (place, version) in [(0, "09"), (1, "03"), (2, "09")] {
        bank.order(order(place).pain_001(version)).await;
    }
    bank.order(order(3).pain_008()).await;
    for (place, wrap) in [(0, 140), (1, 35), (2, 70)] {
        bank.bring(&order(place), wrap).await;
    }
    bank.advance(1).await;
    let first_day = bank.letters().await;
    let told = of(&first_day, "camt.054", "FUND");
    assert_eq!(import(&office, &told).await, [("matched", 4)]);
    let paid = views().await;
    for line in &paid {
        assert_eq!((&line["status"], &line["paid"], &line["outstanding"]), (&json!("paid"), &json!("100.00"), &json!("0.00")));
    }
    // the statements say the same again, and again when they are sent again; what the bank says to others is nobody's cash here
    bank.ask("POST", "/_mock/accounts/FUND/report", String::new()).await;
    bank.advance(1).await;
    let second_day = bank.letters().await;
    let stated: Vec<&str> = [&first_day, &second_day].into_iter().flat_map(|day| of(day, "camt.053", "FUND")).collect();
    assert_eq!(import(&office, &stated).await, [("known", 4)]);
    for again in [&told, &stated] {
        assert_eq!(import(&office, again).await, [("known", 4)]);
    }
    let mut others = Vec::new();
    for account in ["A", "B", "C"] {
        others.extend(of(&first_day, "camt.054", account));
        others.extend(of(&first_day, "camt.053", account));
    }
    assert_eq!(import(&office, &others).await, [("known", 3), ("information", 3)]);
    let intraday = of(&second_day, "camt.052", "FUND");
    assert_eq!(upload(&office.treasurer, intraday[0]).await.refused(422), "statement_unreadable");
    assert_eq!(views().await, paid);
    assert_sums(&stack);

    // days later it comes back
    bank.advance(2).await;
    let later = bank.letters().await;
    let collected_back = of(&later, "camt.054", "FUND");
    let paid_back = of(&later, "camt.054", "C");
    assert_eq!((collected_back.len(), paid_back.len(), of(&later, "pacs.004", "C").len()), (1, 1, 1));
    assert_eq!(import(&office, &collected_back).await, [("returned", 1)]);
    let after = views().await;
    assert_eq!((&after[..3], &after[3]["status"], &after[3]["outstanding"]), (&paid[..3], &json!("open"), &json!("100.00")));
    assert_eq!(import(&office, &[&seen_by_the_fund(paid_back[0])]).await, [("returned", 1)]);
    assert_eq!(import(&office, &of(&later, "camt.053", "FUND")).await, [("known", 1)]);
    let after = views().await;
    assert_eq!(after[..2], paid[..2]);
    for (place, reason) in [(2, "AC04"), (3, "MD06")] {
        let (line, before) = (&after[place], &open[place]);
        for field in ["status", "timing", "paid", "outstanding"] {
            assert_eq!(line[field], before[field], "{field} of {line:#}");
        }
        let payments = office.auditor.get(&format!("/payments?line_id={}", id(line, "id"))).await.expect(200);
        let reversal = items(&payments)[0]["reversal"].clone();
        assert!(reversal["reason"].as_str().unwrap().contains(reason), "{payments:#}");
    }
    let call = office.manager.get(&format!("/capital-calls/{}", id(&call, "id"))).await.expect(200);
    assert_eq!(call["paid"], "200.00");
    assert_sums(&stack);
}

#[tokio::test]
async fn a_refund_that_the_bank_brings_back_is_no_cash_of_the_investor_it_went_to() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let bank = Bank::start(&stack).await;
    let (fund, _, call) = office.open_call(&stack, 1, "100.00").await;
    office.admin.post(&format!("/funds/{}/bank-accounts", fund.id), json!({"account": FUND})).await.expect(201);
    let text = printed(&lines(&call)[0]);
    let paid = Order { payer: INVESTORS[0], name: "Somebody", payee: FUND, end_to_end_id: "CALL-1-A", amount: "130.00", remittance: &text };
    bank.order(paid.pain_001("09")).await;
    bank.bring(&paid, 140).await;
    assert_eq!(import(&office, &of(&bank.letters().await, "camt.054", "FUND")).await, [("matched", 1)]);
    let line = format!("/call-lines/{}", id(&lines(&call)[0], "id"));
    let payments = office.auditor.get(&format!("/payments?line_id={}", id(&lines(&call)[0], "id"))).await.expect(200);
    let refunds = format!("/payments/{}/refunds", id(&items(&payments)[0], "id"));
    let accepted = office.treasurer.post(&refunds, json!({"amount": "30.00", "reason": "paid too much"})).await.expect(202);
    let refund = format!("/refunds/{}", id(&accepted, "refund_id"));
    let page = format!("/approvals?status=pending&subject_id={}", id(&accepted, "refund_id"));
    let page = office.ann.until(&page, |page| !items(page).is_empty()).await;
    let votes = format!("/approvals/{}/votes", id(&items(&page)[0], "id"));
    office.ann.post(&votes, json!({"decision": "approve"})).await.expect(200);
    office.manager.until(&refund, |refund| refund["status"] == "approved").await;
    // the fund orders it like anybody else
    bank.returns_later("FUND", 2, "AC04").await;
    let back = Order { payer: FUND, name: "Fund", payee: INVESTORS[0], end_to_end_id: "REFUND-1", amount: "30.00", remittance: "refund" };
    bank.order(back.pain_001("09")).await;
    office.treasurer.post(&format!("{refund}/payout"), json!({"paid_on": "2026-11-02", "reference": "REFUND-1"})).await.expect(200);
    let before = office.auditor.get(&line).await.expect(200);
    bank.advance(3).await;
    let letters = bank.letters().await;
    assert_eq!((of(&letters, "pacs.004", "FUND").len(), of(&letters, "camt.054", "FUND").len()), (1, 2));
    assert_eq!(import(&office, &of(&letters, "camt.054", "FUND")).await, [("information", 2)]);
    assert_eq!(import(&office, &of(&letters, "camt.053", "FUND")).await, [("known", 3)]);
    let entries = office.auditor.get(&format!("/bank-entries?fund_id={}&status=information", fund.id)).await.expect(200);
    let came_back = items(&entries).iter().find(|entry| entry["credit"] == true).unwrap();
    assert_eq!((&came_back["end_to_end_id"], &came_back["return_reason"]), (&json!("REFUND-1"), &json!("AC04")));
    assert_eq!(office.auditor.get(&line).await.expect(200), before);
    assert_sums(&stack);
}

/// A reference in groups of four, as it is printed on a notice.
fn printed(line: &Value) -> String {
    let reference = line["reference"].as_str().unwrap().as_bytes();
    reference.chunks(4).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ")
}

/// What the payer's bank says to the payer of a payment that came back, as the fund's bank says it: the other account, the other side.
fn seen_by_the_fund(notification: &str) -> String {
    notification.replacen(INVESTORS[2], FUND, 1).replace("<CdtDbtInd>CRDT", "<CdtDbtInd>DBIT")
}
