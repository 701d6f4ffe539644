//! Bank statement files, and the lines that their entries pay.

use serde_json::{Value, json};
use testkit::{Client, Stack};
use uuid::Uuid;

use crate::office::{Fund, Office, assert_sums, id, items, lines};

const ACCOUNT: &str = "DE89370400440532013000";

/// An entry of a camt file.
#[derive(Clone, Copy)]
struct Entry<'a> {
    amount: &'a str,
    credit: bool,
    status: &'a str,
    /// The bank's reference.
    reference: &'a str,
    end_to_end_id: &'a str,
    payer: &'a str,
    payer_account: &'a str,
    remittance: &'a str,
    return_code: Option<&'a str>,
}

impl<'a> Entry<'a> {
    fn credit(amount: &'a str, reference: &'a str, remittance: &'a str) -> Entry<'a> {
        Entry {
            amount,
            credit: true,
            status: "BOOK",
            reference,
            end_to_end_id: reference,
            payer: "Somebody",
            payer_account: "NL41MOCK0000000001",
            remittance,
            return_code: None,
        }
    }

    fn xml(&self) -> String {
        let (mark, reversal) = (if self.credit { "CRDT" } else { "DBIT" }, self.return_code.is_some());
        let returned = self.return_code.map(|code| format!("<RtrInf><Rsn><Cd>{code}</Cd></Rsn></RtrInf>")).unwrap_or_default();
        let account = match self.payer_account {
            "" => String::new(),
            account => format!("<DbtrAcct><Id><IBAN>{account}</IBAN></Id></DbtrAcct>"),
        };
        format!(
            "<Ntry><Amt Ccy=\"USD\">{}</Amt><CdtDbtInd>{mark}</CdtDbtInd><RvslInd>{reversal}</RvslInd><Sts><Cd>{}</Cd></Sts>\
             <BookgDt><Dt>2026-11-02</Dt></BookgDt><ValDt><Dt>2026-11-02</Dt></ValDt><AcctSvcrRef>{}</AcctSvcrRef>\
             <BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>RCDT</Cd><SubFmlyCd>ESCT</SubFmlyCd></Fmly></Domn></BkTxCd>\
             <NtryDtls><TxDtls><Refs><EndToEndId>{}</EndToEndId></Refs><Amt Ccy=\"USD\">{}</Amt><CdtDbtInd>{mark}</CdtDbtInd>\
             <RltdPties><Dbtr><Pty><Nm>{}</Nm></Pty></Dbtr>{account}</RltdPties>\
             <RmtInf><Ustrd>{}</Ustrd></RmtInf>{returned}</TxDtls></NtryDtls></Ntry>",
            self.amount, self.status, self.reference, self.end_to_end_id, self.amount, self.payer, self.remittance
        )
    }
}

fn camt(message: &str, version: &str, entries: &[Entry<'_>]) -> String {
    let (root, part) = if message == "053" { ("BkToCstmrStmt", "Stmt") } else { ("BkToCstmrDbtCdtNtfctn", "Ntfctn") };
    let entries: String = entries.iter().map(Entry::xml).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:camt.{message}.001.{version}\"><{root}>\
         <GrpHdr><MsgId>M</MsgId><CreDtTm>2026-11-02T18:00:00</CreDtTm></GrpHdr><{part}><Id>S-1</Id><CreDtTm>2026-11-02T18:00:00</CreDtTm>\
         <Acct><Id><IBAN>{ACCOUNT}</IBAN></Id><Ccy>USD</Ccy></Acct>{entries}</{part}></{root}></Document>"
    )
}

async fn send(client: &Client, query: &str, key: &str, file: impl Into<Vec<u8>>) -> testkit::client::Reply {
    client.send("POST", &format!("/bank-statements{query}"), Some(key), Some(file.into())).await.unwrap()
}

async fn import(office: &Office, file: String) -> Value {
    let import = send(&office.treasurer, "?file_name=day.xml", &Uuid::now_v7().to_string(), file).await.expect(201);
    assert_eq!(import["left"], 0, "{import:#}");
    import
}

fn counts(import: &Value) -> Vec<(&'static str, i64)> {
    let all = ["known", "pending", "matched", "suggested", "unmatched", "returned", "information"];
    all.into_iter().map(|field| (field, import[field].as_i64().unwrap())).filter(|(_, count)| *count > 0).collect()
}

/// A fund with a bank account and a call over three investors.
async fn firm(stack: &Stack, office: &Office, amount: &str) -> (Fund, Value) {
    let (fund, _, call) = office.open_call(stack, 3, amount).await;
    office.admin.post(&format!("/funds/{}/bank-accounts", fund.id), json!({"account": "DE89 3704 0044 0532 0130 00"})).await.expect(201);
    (fund, call)
}

#[tokio::test]
async fn the_reference_of_a_line_pays_it_once_however_often_the_bank_tells_and_a_return_takes_it_back() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, call) = firm(&stack, &office, "300.00").await;
    let line = &lines(&call)[0];
    let reference = line["reference"].as_str().unwrap();
    let printed = format!("capital call {} {} thanks", &reference[..4], &reference[4..]);
    let view = async || office.auditor.get(&format!("/call-lines/{}", id(line, "id"))).await.expect(200);
    // pending, then in a notification, then in the statement of the day
    let pending = Entry { status: "PDNG", ..Entry::credit("100.00", "BANK-1", &printed) };
    assert_eq!(counts(&import(&office, camt("054", "08", &[pending])).await), [("pending", 1)]);
    assert_eq!(view().await["paid"], "0.00");
    let booked = || Entry::credit("100.00", "BANK-1", &printed);
    let notified = import(&office, camt("054", "04", &[booked()])).await;
    assert_eq!(counts(&notified), [("known", 1), ("matched", 1)]);
    assert_eq!((&view().await["paid"], &view().await["status"]), (&json!("100.00"), &json!("paid")));
    for version in ["02", "08"] {
        let again =
            import(&office, camt("053", version, &[booked(), Entry { credit: false, ..Entry::credit("7.00", "FEE", "fees") }])).await;
        assert_eq!(again["known"], if version == "02" { 1 } else { 2 }, "{again:#}");
    }
    let entries = office.auditor.get(&format!("/bank-entries?fund_id={}&status=matched", fund.id)).await.expect(200);
    let entry = &items(&entries)[0];
    assert_eq!((items(&entries).len(), &entry["matched_by"], &entry["sure"]), (1, &json!("reference"), &json!(100)));
    let payment = office.auditor.get(&format!("/payments/{}", entry["payment_ids"][0].as_str().unwrap())).await.expect(200);
    assert_eq!(
        (&payment["method"], &payment["received_on"], &payment["recorded_by"]),
        (&json!("sepa"), &json!("2026-11-02"), &json!("tom"))
    );
    // it comes back: the line is open again, once
    let returned =
        || Entry { credit: false, end_to_end_id: "BANK-1", return_code: Some("AC04"), ..Entry::credit("100.00", "RET-1", &printed) };
    assert_eq!(counts(&import(&office, camt("054", "08", &[returned()])).await), [("returned", 1)]);
    assert_eq!(counts(&import(&office, camt("053", "08", &[returned()])).await), [("known", 1)]);
    let after = view().await;
    assert_eq!((&after["paid"], &after["outstanding"]), (&json!("0.00"), &json!("100.00")));
    let again = json!({"parts": [{"line_id": payment["line_id"], "amount": "100.00"}]});
    let again = office.treasurer.post(&format!("/bank-entries/{}/match", id(entry, "id")), again).await;
    assert_eq!(again.refused(409), "bank_entry_decided", "cash that the bank took back pays nothing");
    let payment = office.auditor.get(&format!("/payments/{}", id(&payment, "id"))).await.expect(200);
    assert!(payment["reversal"]["reason"].as_str().unwrap().contains("AC04"), "{payment:#}");
    // and what comes back of nothing that is known waits for a person
    let unknown = Entry { credit: false, return_code: Some("AM09"), ..Entry::credit("55.00", "RET-2", "?") };
    assert_eq!(counts(&import(&office, camt("053", "08", &[unknown])).await), [("unmatched", 1)]);
    assert_sums(&stack);
    // the accounts of both sides are nowhere but masked
    for account in ["41MOCK0000000001", &ACCOUNT[2..]] {
        crate::bank_details::assert_nowhere(&stack, account).await;
    }
}

#[tokio::test]
async fn an_entry_that_fails_holds_up_no_other_and_is_left_to_a_person() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (_, call) = firm(&stack, &office, "300.00").await;
    let refuses = "create function capital_calls.refuse() returns trigger language plpgsql as $$
                   begin if new.amount = 66 then raise exception 'no 66'; end if; return new; end $$;
                   create trigger refuse before insert on capital_calls.payments for each row execute function capital_calls.refuse()";
    sqlx::raw_sql(refuses).execute(&stack.database().await).await.unwrap();
    let printed: Vec<&str> = lines(&call).iter().map(|line| line["reference"].as_str().unwrap()).collect();
    let entry = |place: usize, amount, reference| Entry::credit(amount, reference, printed[place]);
    let imported = import(&office, camt("053", "08", &[entry(0, "100.00", "A"), entry(1, "66.00", "B"), entry(2, "100.00", "C")])).await;
    assert_eq!(counts(&imported), [("matched", 2), ("unmatched", 1)], "{imported:#}");
    let left = office.treasurer.get("/bank-entries?status=unmatched").await.expect(200);
    assert!(items(&left)[0]["note"].as_str().unwrap().contains("no 66"), "{left:#}");
    let paid: Vec<&Value> = lines(&call).iter().map(|line| &line["id"]).collect();
    for (line, expected) in paid.into_iter().zip(["100.00", "0.00", "100.00"]) {
        let line = office.auditor.get(&format!("/call-lines/{}", line.as_str().unwrap())).await.expect(200);
        assert_eq!(line["paid"], expected, "{line:#}");
    }
    assert_sums(&stack);
}

#[tokio::test]
async fn what_has_no_reference_is_suggested_and_what_a_person_confirms_is_remembered() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, call) = firm(&stack, &office, "300.00").await;
    let second = office.call(&fund, id(&call["purposes"][0], "allocation_id"), "90.00", "2099-12-31").await;
    let of = |call: &Value, investor: usize| {
        lines(call).iter().find(|line| id(line, "investor_id") == fund.investors[investor]).unwrap().clone()
    };
    // the investors are called Investor 0 to 2; the amount and the name say which line
    let named = |amount, reference, payer, account| Entry { payer, payer_account: account, ..Entry::credit(amount, reference, "call 1") };
    let file = camt(
        "053",
        "08",
        &[
            named("100.00", "A", "Investor 1", "NL01"),
            named("130.00", "B", "INVESTOR 2 Ltd.", "NL02"),
            named("100.00", "C", "Nobody", "NL09"),
            named("77.00", "D", "Nobody", "NL09"),
        ],
    );
    let imported = import(&office, file).await;
    assert_eq!(imported["suggested"].as_i64().unwrap() + imported["unmatched"].as_i64().unwrap(), 4, "{imported:#}");
    let entries = office.treasurer.get(&format!("/bank-entries?import_id={}", id(&imported, "id"))).await.expect(200);
    let entry = |reference: &str| items(&entries).iter().find(|entry| entry["entry_id"] == reference).unwrap().clone();
    let best = |reference: &str| {
        let suggestion = entry(reference)["suggestions"][0].clone();
        (
            suggestion["why"].as_str().unwrap().to_owned(),
            suggestion["parts"].as_array().unwrap().len(),
            suggestion["parts"][0]["line_id"].clone(),
        )
    };
    assert_eq!(best("A"), ("amount_and_name".into(), 1, of(&call, 1)["id"].clone()));
    assert_eq!((best("B").0, best("B").1), ("sum_and_name".into(), 2));
    assert_eq!(entry("D")["status"], "unmatched");
    assert!(entry("D")["age_days"].as_i64().unwrap() > 0, "{:#}", entry("D"));
    let act = async |reference: &str, act: &str, body: Value| {
        office.treasurer.post(&format!("/bank-entries/{}/{act}", id(&entry(reference), "id")), body).await
    };
    // accepted and remembered: the next one from that account pays by itself, over two lines
    let accepted = json!({"parts": entry("A")["suggestions"][0]["parts"], "remember_payer": true});
    let matched = act("A", "match", accepted.clone()).await.expect(200);
    assert_eq!((&matched["status"], &matched["matched_by"]), (&json!("matched"), &json!("person")));
    assert_eq!(act("A", "match", accepted).await.refused(409), "bank_entry_decided");
    let next = import(&office, camt("053", "08", &[named("30.00", "E", "Somebody else", "NL01")])).await;
    assert_eq!(counts(&next), [("matched", 1)], "{next:#}");
    let line = office.auditor.get(&format!("/call-lines/{}", id(&of(&second, 1), "id"))).await.expect(200);
    assert_eq!(line["paid"], "30.00");
    // split otherwise than suggested; and rejected
    let parts = json!([{"line_id": of(&call, 2)["id"], "amount": "99.00"}, {"line_id": of(&second, 2)["id"], "amount": "31.00"}]);
    assert_eq!(act("B", "match", json!({"parts": [parts[0]]})).await.refused(422), "receipt_mismatch");
    let mixed = json!([{"line_id": of(&call, 2)["id"], "amount": "99.00"}, {"line_id": of(&call, 0)["id"], "amount": "31.00"}]);
    assert_eq!(act("B", "match", json!({"parts": mixed})).await.refused(422), "receipt_mismatch");
    assert_eq!(act("B", "match", json!({"parts": parts})).await.expect(200)["payment_ids"].as_array().unwrap().len(), 2);
    // what was matched wrongly is matched anew once its payments are taken back
    let wrong = office.auditor.get(&format!("/bank-entries/{}", id(&entry("B"), "id"))).await.expect(200);
    assert_eq!(act("B", "match", json!({"parts": parts})).await.refused(409), "bank_entry_decided");
    for (payment, note) in wrong["payment_ids"].as_array().unwrap().iter().zip(["a part of what it paid", "what it paid"]) {
        let back = json!({"reason": "the wrong investor", "effective_on": "2026-11-02", "cash_stays": true});
        office.treasurer.post(&format!("/payments/{}/reverse", payment.as_str().unwrap()), back).await.expect(200);
        let told = office.auditor.get(&format!("/bank-entries/{}", id(&entry("B"), "id"))).await.expect(200);
        assert!(told["note"].as_str().unwrap().starts_with(note), "{told:#}");
    }
    let reopened = office.auditor.get(&format!("/bank-entries/{}", id(&entry("B"), "id"))).await.expect(200);
    assert_eq!((&reopened["status"], &reopened["decided_by"]), (&json!("unmatched"), &json!(null)), "{reopened:#}");
    assert_eq!(reopened["note"], "what it paid was taken back: the wrong investor");
    let right = act("B", "match", json!({"parts": parts})).await.expect(200);
    assert!(right["payment_ids"].as_array().unwrap().iter().all(|payment| !wrong["payment_ids"].as_array().unwrap().contains(payment)));
    let line = office.auditor.get(&format!("/call-lines/{}", id(&of(&call, 2), "id"))).await.expect(200);
    assert_eq!(line["paid"], "99.00", "{line:#}");
    assert_eq!(act("B", "match", json!({"parts": parts})).await.refused(409), "bank_entry_decided");
    assert_eq!(act("C", "reject", json!({"reason": "none of these"})).await.expect(200)["status"], "unmatched");
    // no cash of an investor at all: out of the suspense, and yet it may be matched
    let set_aside = act("C", "reject", json!({"reason": "interest of the bank", "set_aside": true})).await.expect(200);
    assert_eq!((&set_aside["status"], &set_aside["age_days"]), (&json!("information"), &json!(null)));
    assert_eq!(act("C", "reject", json!({"reason": "again"})).await.refused(409), "bank_entry_decided");
    let parts = json!([{"line_id": of(&call, 0)["id"], "amount": "100.00"}]);
    assert_eq!(act("C", "match", json!({"parts": parts})).await.expect(200)["status"], "matched");
    assert_eq!(
        office.manager.post(&format!("/bank-entries/{}/reject", id(&entry("D"), "id")), json!({"reason": "?"})).await.refused(403),
        "forbidden"
    );
    // a name is remembered as well, and pays by itself what nobody else owes where the bank tells no account
    let custodian = |amount, reference| named(amount, reference, "Custody  BANK", "");
    let first = import(&office, camt("053", "08", &[custodian("30.00", "F")])).await;
    assert_eq!(counts(&first), [("suggested", 1)], "{first:#}");
    let waiting = office.treasurer.get(&format!("/bank-entries?import_id={}", id(&first, "id"))).await.expect(200);
    let body = json!({"parts": [{"line_id": of(&second, 0)["id"], "amount": "30.00"}], "remember_payer": true});
    office.treasurer.post(&format!("/bank-entries/{}/match", id(&items(&waiting)[0], "id")), body).await.expect(200);
    let third = office.call(&fund, id(&call["purposes"][0], "allocation_id"), "60.00", "2099-12-31").await;
    let all_owe_it = import(&office, camt("053", "08", &[custodian("20.00", "G")])).await;
    assert_eq!(counts(&all_owe_it), [("suggested", 1)], "{all_owe_it:#}");
    office.pay(id(&of(&third, 0), "id"), "5.00", "by wire").await;
    let only_it_owes = import(&office, camt("053", "08", &[custodian("15.00", "H")])).await;
    let matched = office.treasurer.get(&format!("/bank-entries?import_id={}", id(&only_it_owes, "id"))).await.expect(200);
    assert_eq!((&items(&matched)[0]["matched_by"], &items(&matched)[0]["sure"]), (&json!("payer_name"), &json!(90)), "{matched:#}");
    assert_sums(&stack);
}

#[tokio::test]
async fn cash_that_went_back_is_matched_by_nobody() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (_, call) = firm(&stack, &office, "300.00").await;
    let printed = lines(&call)[0]["reference"].as_str().unwrap();
    let came = |reference, remittance| Entry::credit("100.00", reference, remittance);
    let back = |of: &'static str, reference| Entry {
        credit: false,
        end_to_end_id: of,
        return_code: Some("AC04"),
        ..Entry::credit("100.00", reference, "returned")
    };
    let entry = async |reference: &str| {
        let entries = office.treasurer.get("/bank-entries?limit=50").await.expect(200);
        items(&entries).iter().find(|entry| entry["entry_id"] == reference).unwrap().clone()
    };
    let parts = json!({"parts": [{"line_id": lines(&call)[0]["id"], "amount": "100.00"}]});
    let match_anew = async |reference: &str| {
        let path = format!("/bank-entries/{}/match", id(&entry(reference).await, "id"));
        office.treasurer.post(&path, parts.clone()).await.refused(409)
    };
    // it waited for a person, in an earlier file and in the same one
    import(&office, camt("053", "08", &[came("WAITS", "?")])).await;
    let files = [vec![back("WAITS", "R-1")], vec![came("SAME", "?"), back("SAME", "R-2")]];
    for (file, returned) in files.into_iter().zip([1, 2]) {
        assert_eq!(counts(&import(&office, camt("053", "08", &file)).await), [("returned", returned)]);
    }
    // it had paid, and a person said that it is gone, or that it is there when it is not
    for (reference, cash_stays) in [("GONE", false), ("STAYS", true)] {
        import(&office, camt("053", "08", &[came(reference, printed)])).await;
        let payment = entry(reference).await["payment_ids"][0].as_str().unwrap().to_owned();
        let body = json!({"reason": "bounced", "effective_on": "2026-11-02", "cash_stays": cash_stays});
        office.treasurer.post(&format!("/payments/{payment}/reverse"), body).await.expect(200);
        assert_eq!(entry(reference).await["status"], if cash_stays { "unmatched" } else { "matched" });
    }
    assert_eq!(counts(&import(&office, camt("053", "08", &[back("STAYS", "R-3")])).await), [("returned", 1)]);
    for (reference, status) in [("WAITS", "returned"), ("SAME", "returned"), ("GONE", "matched"), ("STAYS", "returned")] {
        assert_eq!(entry(reference).await["status"], status, "{reference}");
        assert_eq!(match_anew(reference).await, "bank_entry_decided", "{reference}");
    }
    // what was refunded is there no more, whatever a person says
    import(&office, camt("053", "08", &[Entry::credit("130.00", "MORE", printed)])).await;
    let payment = entry("MORE").await["payment_ids"][0].as_str().unwrap().to_owned();
    let refund = office.treasurer.post(&format!("/payments/{payment}/refunds"), json!({"reason": "too much"})).await.expect(202);
    let refund = format!("/refunds/{}", id(&refund, "refund_id"));
    office.approve(id(&office.treasurer.get(&refund).await.expect(200), "id")).await;
    office.treasurer.until(&refund, |refund| refund["status"] == "approved").await;
    let paid_out = json!({"paid_on": "2026-11-03", "reference": "out"});
    office.treasurer.post(&format!("{refund}/payout"), paid_out).await.expect(200);
    let body = json!({"reason": "the wrong investor", "effective_on": "2026-11-03", "cash_stays": true});
    assert_eq!(office.treasurer.post(&format!("/payments/{payment}/reverse"), body).await.refused(409), "no_credit");
    assert_sums(&stack);
}

#[tokio::test]
async fn an_account_that_was_closed_brings_no_fund_cash_until_it_is_registered_again() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, call) = firm(&stack, &office, "300.00").await;
    let other = office.fund(1).await;
    let accounts = |fund: &Fund| format!("/funds/{}/bank-accounts", fund.id);
    let account = json!({"account": "de89370400440532013000"});
    let wrong = office.admin.post(&accounts(&fund), json!({"account": "DE88 3704 0044 0532 0130 00"})).await;
    assert_eq!(wrong.refused(422), "invalid_bank_details");
    let close = |fund: &Fund| format!("{}/close", accounts(fund));
    assert_eq!(office.admin.post(&close(&other), account.clone()).await.refused(404), "unknown_bank_account");
    assert_eq!(office.manager.post(&close(&fund), account.clone()).await.refused(403), "forbidden");
    let closed = office.admin.post(&close(&fund), account.clone()).await.expect(200);
    assert!(closed["closed_at"].is_string() && closed["account"] == "****3000", "{closed:#}");
    assert_eq!(office.admin.post(&close(&fund), account.clone()).await.expect(200), closed);
    let reference = lines(&call)[0]["reference"].as_str().unwrap();
    let unnamed = Entry { payer: "Investor 1", ..Entry::credit("100.00", "CLOSED", "call 1") };
    let named = Entry::credit("100.00", "NAMED", reference);
    let imported = import(&office, camt("053", "08", &[unnamed, named])).await;
    assert_eq!(counts(&imported), [("unmatched", 2)], "{imported:#}");
    assert!(items(&office.treasurer.get("/bank-entries?status=unmatched").await.expect(200))[0]["fund_id"].is_null());
    // and is another fund's from when it is registered for it
    let registered = office.admin.post(&accounts(&other), account.clone()).await.expect(201);
    assert!(registered["closed_at"].is_null() && registered["fund_id"] == json!(other.id), "{registered:#}");
    assert_eq!(office.admin.post(&accounts(&fund), account).await.refused(409), "bank_account_taken");
    let imported = import(&office, camt("053", "08", &[Entry::credit("100.00", "OTHER", reference)])).await;
    assert_eq!(counts(&imported), [("unmatched", 1)], "{imported:#}");
    assert!(items(&office.admin.get(&accounts(&fund)).await.expect(200)).is_empty());
}

#[tokio::test]
async fn what_a_bank_leaves_out_is_made_up_by_nobody() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, call) = firm(&stack, &office, "300.00").await;
    let printed: Vec<&str> = lines(&call).iter().map(|line| line["reference"].as_str().unwrap()).collect();
    // without an id of the payer, what comes back another day is found by the reference of the line
    let first = || Entry { end_to_end_id: "NOTPROVIDED", ..Entry::credit("100.00", "A", printed[0]) };
    assert_eq!(counts(&import(&office, camt("053", "08", &[first()])).await), [("matched", 1)]);
    let returned = Entry { credit: false, return_code: Some("AC04"), reference: "R", ..first() };
    assert_eq!(counts(&import(&office, camt("053", "08", &[returned])).await), [("returned", 1)]);
    let line = office.auditor.get(&format!("/call-lines/{}", id(&lines(&call)[0], "id"))).await.expect(200);
    assert_eq!(line["paid"], "0.00");
    // without a date, a person matches it
    let remittance = format!("{} from GB82 WEST 1234 5698 7654 32", printed[1]);
    let dates = "<BookgDt><Dt>2026-11-02</Dt></BookgDt><ValDt><Dt>2026-11-02</Dt></ValDt>";
    let undated = camt("053", "08", &[Entry::credit("100.00", "B", &remittance)]).replace(dates, "");
    assert_eq!(counts(&import(&office, undated).await), [("unmatched", 1)]);
    let waiting = office.treasurer.get(&format!("/bank-entries?fund_id={}&status=unmatched", fund.id)).await.expect(200);
    let entry = &items(&waiting)[0];
    assert!(entry["note"].as_str().unwrap().contains("no date"), "{entry:#}");
    assert_eq!(entry["remittance"], json!(format!("{} from ****5432", printed[1])), "no account is shown");
    let parts = json!({"parts": [{"line_id": lines(&call)[1]["id"], "amount": "100.00"}]});
    let matched = office.treasurer.post(&format!("/bank-entries/{}/match", id(entry, "id")), parts).await.expect(200);
    let payment = office.auditor.get(&format!("/payments/{}", matched["payment_ids"][0].as_str().unwrap())).await.expect(200);
    assert_eq!(payment["received_on"], json!(entry["created_at"].as_str().unwrap()[..10]));
    assert_sums(&stack);
}

#[tokio::test]
async fn who_may_not_see_a_fund_imports_nothing_of_its_account() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, call) = firm(&stack, &office, "300.00").await;
    let day = || camt("053", "08", &[Entry::credit("100.00", "A", lines(&call)[0]["reference"].as_str().unwrap())]);
    let treasurer_of = |fund_id: Uuid| {
        let token = testkit::client::token(&stack.settings.jwt_secret, "tina", &["treasurer"], Some(&[fund_id]), 600);
        stack.with_token(Some(token))
    };
    assert_eq!(send(&treasurer_of(Uuid::now_v7()), "", "other", day()).await.refused(403), "fund_out_of_scope");
    assert_eq!(counts(&send(&treasurer_of(fund.id), "", "own", day()).await.expect(201)), [("matched", 1)], "nothing was known of it");
}

#[tokio::test]
async fn a_batch_whose_parts_are_not_all_there_waits_and_is_not_counted_again_with_them() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (_, call) = firm(&stack, &office, "300.00").await;
    let reference = lines(&call)[0]["reference"].as_str().unwrap();
    let one = Entry::credit("100.00", "BATCH", reference);
    // three payments in one booking, of which the bank tells one
    let partial = camt("053", "08", &[one]).replacen("<Amt Ccy=\"USD\">100.00", "<Amt Ccy=\"USD\">300.00", 1).replacen(
        "<NtryDtls>",
        "<NtryDtls><Btch><NbOfTxs>3</NbOfTxs></Btch>",
        1,
    );
    let imported = import(&office, partial).await;
    assert_eq!(counts(&imported), [("unmatched", 1)], "{imported:#}");
    let parts: String = (0..3).map(|place| format!("<TxDtls><Refs><EndToEndId>P{place}</EndToEndId></Refs><Amt Ccy=\"USD\">100.00</Amt><CdtDbtInd>CRDT</CdtDbtInd><RmtInf><Ustrd>{}</Ustrd></RmtInf></TxDtls>", lines(&call)[place]["reference"].as_str().unwrap())).collect();
    let whole = camt("054", "08", &[Entry::credit("300.00", "BATCH", "batch")]);
    let details = whole.find("<NtryDtls>").unwrap()..whole.find("</NtryDtls>").unwrap();
    let mut detailed = whole.clone();
    detailed.replace_range(details, &format!("<NtryDtls><Btch><NbOfTxs>3</NbOfTxs></Btch>{parts}"));
    let again = import(&office, detailed).await;
    assert_eq!(counts(&again), [("known", 3)], "{again:#}");
    assert_eq!(office.manager.get(&format!("/capital-calls/{}", id(&call, "id"))).await.expect(200)["paid"], "0.00");
    // and as a booking that is new it pays three lines
    let other = camt("054", "08", &[Entry::credit("300.00", "OTHER", "batch")]);
    let details = other.find("<NtryDtls>").unwrap()..other.find("</NtryDtls>").unwrap();
    let mut detailed = other.clone();
    detailed.replace_range(details, &format!("<NtryDtls><Btch><NbOfTxs>3</NbOfTxs></Btch>{parts}"));
    assert_eq!(counts(&import(&office, detailed).await), [("matched", 3)]);
    assert_sums(&stack);
}

#[tokio::test]
async fn a_file_that_is_broken_leaves_nothing_and_one_that_is_sent_again_goes_on() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (_, call) = firm(&stack, &office, "300.00").await;
    let reference = lines(&call)[0]["reference"].as_str().unwrap();
    let good = camt("053", "08", &[Entry::credit("100.00", "G", reference)]);
    let entity = good.replacen("<Document", "<!DOCTYPE d [<!ENTITY a \"aa\">]><Document", 1);
    for (what, file) in [
        ("cut short", good.as_bytes()[..good.len() - 20].to_vec()),
        ("an entity", entity.into_bytes()),
        ("another encoding", [good.as_bytes(), &[0xff, 0xfe]].concat()),
        ("too many decimals", good.replace("100.00", "100.001").into_bytes()),
        ("nothing", vec![]),
    ] {
        let reply = send(&office.treasurer, "", &Uuid::now_v7().to_string(), file).await;
        assert_eq!(reply.refused(422), "statement_unreadable", "{what}");
    }
    assert!(items(&office.treasurer.get("/bank-entries").await.expect(200)).is_empty());
    assert_eq!(send(&office.manager, "", "k", good.clone()).await.refused(403), "forbidden");
    let first = send(&office.treasurer, "", "day 1".replace(' ', "-").as_str(), good.clone()).await.expect(201);
    let again = send(&office.treasurer, "", "day-1", good).await.expect(201);
    assert_eq!((&first["id"], first["matched"].as_i64()), (&again["id"], Some(1)));
    // CSV by a saved map, and BAI2
    let map = json!({"name": "house bank", "map": {"account": {"fixed": ACCOUNT}, "currency": {"fixed": "USD"}, "booked_on": "date", "amount": {"signed": {"column": "amount"}}, "bank_reference": "ref", "remittance": ["text"]}});
    let mut bad = map.clone();
    bad["map"]["amount"] = json!({"signed": {"column": ["x"]}});
    assert_eq!(office.treasurer.post("/column-maps", bad).await.refused(400), "malformed_request");
    office.treasurer.post("/column-maps", map).await.expect(200);
    let csv = format!(
        "date,amount,ref,text\n2026-11-03,100.00,R-9,{}\n2026-11-03,-3.00,R-10,fees\n",
        lines(&call)[1]["reference"].as_str().unwrap()
    );
    assert_eq!(send(&office.treasurer, "?column_map=other", "csv-0", csv.clone()).await.refused(404), "unknown_column_map");
    let imported = send(&office.treasurer, "?column_map=house%20bank", "csv-1", csv).await.expect(201);
    assert_eq!(counts(&imported), [("matched", 1), ("information", 1)], "{imported:#}");
    let bai2 = std::fs::read(testkit::root().join("shared/statements/tests/data/bai2-sample1.txt")).unwrap();
    let imported = send(&office.treasurer, "", "bai-1", bai2).await.expect(201);
    assert_eq!((imported["format"].as_str(), imported["left"].as_i64()), (Some("BAI2"), Some(0)));
    assert!(imported["entries"].as_i64().unwrap() > 0);
    assert_sums(&stack);
}

#[tokio::test]
async fn a_file_that_a_page_sends_is_taken_in_or_refused_as_a_whole_and_gives_its_place_back() {
    let stack = Stack::start().await;
    let token = testkit::client::token(&stack.settings.jwt_secret, "tom", &["treasurer"], None, 600);
    let send = async |fields: &[(&str, &str)]| {
        let mut body: String =
            fields.iter().map(|(name, value)| format!("--x\r\ncontent-disposition: form-data; {name}\r\n\r\n{value}\r\n")).collect();
        body.push_str("--x--\r\n");
        let request = reqwest::Client::new().post(format!("{}/bank-statements", stack.gateway()));
        let request = request.header("cookie", format!("tranche_token={token}")).header("content-type", "multipart/form-data; boundary=x");
        let response = request.body(body).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let file = camt("053", "08", &[Entry::credit("7.00", "page-1", "for nobody")]);
    let key = ("name=\"key\"", "one-form");
    let statement = ("name=\"file\"; filename=\"november.xml\"", file.as_str());
    let long = "x".repeat(1_025);
    // more often than there are places
    for _ in 0..3 {
        for (fields, code) in [
            (vec![key], "malformed_request"),
            (vec![statement], "idempotency_key_missing"),
            (vec![key, ("name=\"column_map\"", long.as_str()), statement], "malformed_request"),
            (vec![key, ("name=\"other\"", "x"), statement], "malformed_request"),
            (vec![key, ("name=\"column_map\"", "nowhere"), statement], "unknown_column_map"),
            (vec![key, ("name=\"file\"; filename=\"a.xml\"", &file[..file.len() / 2])], "statement_unreadable"),
        ] {
            let (status, page) = send(&fields).await;
            assert!((400..500).contains(&status) && page.contains(code), "{code}: {status} {page}");
        }
    }
    let office = Office::of(&stack);
    assert_eq!(items(&office.treasurer.get("/bank-entries").await.expect(200)).len(), 0);
    for _ in 0..2 {
        let (status, page) = send(&[key, statement]).await;
        assert!(status == 200 && page.contains("november.xml"), "{status} {page}");
    }
    assert_eq!(items(&office.treasurer.get("/bank-entries").await.expect(200)).len(), 1, "the same form is the same import");
}

#[tokio::test]
async fn cash_that_went_back_in_an_earlier_file_is_taken_back_when_it_is_seen() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (_, call) = firm(&stack, &office, "300.00").await;
    let line = &lines(&call)[0];
    let credit = Entry { end_to_end_id: "E2E-1", ..Entry::credit("100.00", "came", line["reference"].as_str().unwrap()) };
    let back = Entry { credit: false, return_code: Some("AC04"), remittance: "", ..Entry { reference: "went", ..credit } };
    let unmatched = import(&office, camt("053", "08", std::slice::from_ref(&back))).await;
    assert_eq!(counts(&unmatched), [("unmatched", 1)]);
    let matched = import(&office, camt("054", "08", std::slice::from_ref(&credit))).await;
    assert_eq!(counts(&matched), [("matched", 1)]);
    let path = format!("/call-lines/{}", id(line, "id"));
    let line = office.treasurer.get(&path).await.expect(200);
    assert_eq!((&line["paid"], &line["outstanding"]), (&json!("0.00"), &json!("100.00")));
    let entries = office.treasurer.get("/bank-entries").await.expect(200);
    let returned = items(&entries).iter().find(|entry| entry["credit"] == false).unwrap();
    assert_eq!((&returned["decision"], &returned["note"], &returned["version"]), (&json!("returned"), &Value::Null, &json!(2)));
    let payment = office.treasurer.get(&format!("/payments/{}", returned["payment_ids"][0].as_str().unwrap())).await.expect(200);
    assert_eq!(payment["reversal"]["reason"], "returned by the bank: AC04");
    // what comes again with another id is cash that stays
    let again = Entry { end_to_end_id: "E2E-2", reference: "again", ..credit };
    assert_eq!(counts(&import(&office, camt("053", "08", std::slice::from_ref(&again))).await), [("matched", 1)]);
    assert_eq!(office.treasurer.get(&path).await.expect(200)["outstanding"], "0.00");
    assert_sums(&stack);
}

#[tokio::test]
async fn an_entry_says_that_its_payment_waits_and_payments_that_wait_are_found() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, call) = firm(&stack, &office, "300.00").await;
    let line = &lines(&call)[0];
    let typed = crate::office::payment_on("40.00", "typed in", "2026-11-02");
    office.treasurer.post(&format!("/call-lines/{}/payments", id(line, "id")), typed).await.expect(201);
    import(&office, camt("053", "08", &[Entry::credit("40.00", "came", line["reference"].as_str().unwrap())])).await;
    let entry = items(&office.treasurer.get("/bank-entries").await.expect(200))[0].clone();
    assert!(entry["note"].as_str().unwrap().contains("is kept in suspense: payment"), "{entry:#}");
    let waiting = |fund: Uuid| format!("/payments?in_suspense=true&fund_id={fund}");
    let found = office.treasurer.get(&waiting(fund.id)).await.expect(200);
    assert_eq!(items(&found).iter().map(|payment| &payment["id"]).collect::<Vec<_>>(), [&entry["payment_ids"][0]]);
    assert!(items(&office.treasurer.get(&waiting(Uuid::nil())).await.expect(200)).is_empty());
    assert!(office.treasurer.page("/bank-entries").await.contains("Payments in suspense"));
    let released = format!("/payments/{}/release", entry["payment_ids"][0].as_str().unwrap());
    office.treasurer.post(&released, json!({"reason": "another payment"})).await.expect(200);
    assert!(items(&office.treasurer.get(&waiting(fund.id)).await.expect(200)).is_empty());
}
