//! The page in a real browser: signed in with a token, looked at, clicked, and updated live.

use std::process::Command;
use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use testkit::Stack;
use testkit::process::{Process, free_port};

use crate::office::{Office, id, lines};

/// A browser of its own for one test.
struct Browser {
    _driver: Process,
    client: Client,
}

impl Browser {
    async fn start(stack: &Stack) -> Browser {
        let port = free_port().unwrap();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}"));
        let driver = Process::start("chromedriver", &mut command, &stack.folder().join("chromedriver.log")).unwrap();
        let profile = stack.folder().join("browser");
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1280,900",
        ];
        let mut arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        arguments.push(format!("--user-data-dir={}", profile.display()));
        let capabilities =
            serde_json::from_value(json!({"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}})).unwrap();
        let address = format!("http://127.0.0.1:{port}");
        let mut client = None;
        let up =
            testkit::wait::until(Duration::from_secs(30), || async { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() });
        assert!(up.await, "{}", driver.last_output());
        for _ in 0..3 {
            match ClientBuilder::new(HttpConnector::new()).capabilities(Clone::clone(&capabilities)).connect(&address).await {
                Ok(connected) => {
                    client = Some(connected);
                    break;
                }
                Err(error) => eprintln!("browser: {error}"),
            }
        }
        Browser { client: client.unwrap_or_else(|| panic!("no browser: {}", driver.last_output())), _driver: driver }
    }

    async fn sign_in(&self, stack: &Stack, user: &str, role: &str) {
        let token = testkit::client::token(&stack.settings.jwt_secret, user, &[role], None, 3_600);
        // a browser that has just started may still show its own first page in place of the one it was sent to
        let shown = testkit::wait::until(Duration::from_secs(30), || async {
            self.client.goto(&format!("{}/sign-in", stack.gateway())).await.is_ok()
                && self.client.wait().at_most(Duration::from_secs(5)).for_element(Locator::Id("token")).await.is_ok()
        });
        assert!(shown.await, "instead of the page to sign in there is\n{:?}", self.client.source().await);
        self.find(Locator::Id("token")).await.send_keys(&token).await.unwrap();
        self.find(Locator::Css("main button")).await.click().await.unwrap();
        self.find(Locator::XPath("//h1[text()='Funds']")).await;
    }

    /// The element, waited for: a page may still be on its way.
    async fn find(&self, locator: Locator<'_>) -> Element {
        match self.client.wait().at_most(Duration::from_secs(10)).for_element(locator).await {
            Ok(element) => element,
            Err(error) => panic!("{error}: {locator:?} is not on\n{:?}", self.client.source().await),
        }
    }

    async fn text(&self) -> String {
        self.find(Locator::Css("main")).await.text().await.unwrap()
    }

    /// Keeps a picture under `target/pages` for people to look at; returns its size in bytes.
    async fn picture(&self, name: &str) -> usize {
        let picture = self.client.screenshot().await.unwrap();
        assert_eq!(&picture[1..4], b"PNG");
        let folder = testkit::root().join("target/pages");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), &picture).unwrap();
        picture.len()
    }

    async fn end(self) {
        self.client.close().await.unwrap();
    }
}

/// A picture smaller than this shows an empty page.
const PICTURE_BYTES_MIN: usize = 10_000;

#[tokio::test]
async fn the_page_shows_funds_and_calls_and_updates_while_payments_arrive() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, _, call) = office.open_call(&stack, 3, "100.00").await;
    office.pay(id(&lines(&call)[0], "id"), "20.00", "first").await;
    office.manager.until(&format!("/funds/{}/metrics", fund.id), |metrics| metrics["paid_in"] == "20.00").await;
    let browser = Browser::start(&stack).await;
    browser.sign_in(&stack, "mia", "fund_manager").await;
    let funds = browser.text().await;
    assert!(funds.contains("3,000,000.00") && funds.contains("20.00"), "{funds}");
    let bar = browser.find(Locator::Css("svg.bar")).await.attr("aria-label").await.unwrap().unwrap();
    assert!(bar.starts_with("called 0") && bar.contains("paid 0"), "{bar}");
    assert!(browser.picture("funds").await > PICTURE_BYTES_MIN);

    browser.find(Locator::Css("table a")).await.click().await.unwrap();
    browser.find(Locator::XPath("//h2[text()='Capital calls']")).await;
    let page = browser.text().await;
    assert!(page.contains("partially funded") && page.contains("Investor 2"), "{page}");
    assert!(browser.picture("fund").await > PICTURE_BYTES_MIN);

    browser.client.goto(&format!("{}/capital-calls/{}", stack.gateway(), id(&call, "id"))).await.unwrap();
    assert!(browser.text().await.contains("80.00"));
    assert!(browser.picture("call").await > PICTURE_BYTES_MIN);
    // payments arrive while the page is open; nobody reloads it
    for line in lines(&call) {
        office.pay(id(line, "id"), "5.00", "live").await;
    }
    let live = browser.client.wait().at_most(Duration::from_secs(15)).for_element(Locator::XPath("//dd[text()='35.00']")).await;
    assert!(live.is_ok(), "the page still says\n{}", browser.text().await);

    browser.client.goto(&format!("{}/funds/{}", stack.gateway(), uuid::Uuid::nil())).await.unwrap();
    assert!(browser.text().await.contains("What to do:"));
    browser.end().await;
}

#[tokio::test]
async fn approvals_waiting_for_me_are_voted_on_with_a_button() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let deal = office.deal(&stack).await;
    let accepted = office
        .manager
        .post("/allocations", json!({"deal_id": deal, "fund_id": fund.id, "amount": "5000000", "security_type": "equity"}))
        .await
        .expect(202);
    let allocation = id(&accepted, "allocation_id");
    let browser = Browser::start(&stack).await;
    for user in ["ann", "bob"] {
        browser.sign_in(&stack, user, "committee").await;
        browser.client.goto(&format!("{}/approvals", stack.gateway())).await.unwrap();
        assert!(browser.picture("approvals").await > PICTURE_BYTES_MIN);
        browser.find(Locator::Css("button[value=approve]")).await.click().await.unwrap();
        browser.find(Locator::XPath("//h2[text()='Waiting for me']")).await;
        let gone = testkit::wait::until(Duration::from_secs(10), || async {
            browser.client.find(Locator::Css("button[value=approve]")).await.is_err()
        });
        assert!(gone.await, "{}", browser.text().await);
    }
    office.manager.until(&format!("/allocations/{allocation}"), |allocation| allocation["decision"] == "active").await;
    browser.end().await;
}

#[tokio::test]
async fn a_workflow_is_paused_with_a_button_and_votes_are_delegated_with_a_form() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(1).await;
    let proposal = json!({"deal_id": office.deal(&stack).await, "fund_id": fund.id, "amount": "5000000", "security_type": "equity"});
    let accepted = office.manager.post("/allocations", proposal).await.expect(202);
    let path = format!("/workflows/{}", id(&accepted, "workflow_id"));
    office.manager.until(&path, |workflow| workflow["status"] == "waiting").await;
    let browser = Browser::start(&stack).await;
    browser.sign_in(&stack, "ada", "admin").await;
    browser.client.goto(&format!("{}/workflows?status=waiting", stack.gateway())).await.unwrap();
    browser.find(Locator::LinkText("allocation")).await.click().await.unwrap();
    assert!(browser.picture("workflow").await > PICTURE_BYTES_MIN);
    browser.find(Locator::Css("input[name=reason]")).await.send_keys("the committee meets on Monday").await.unwrap();
    browser.find(Locator::XPath("//button[text()='Have it do so']")).await.click().await.unwrap();
    browser.find(Locator::XPath("//h1[contains(., 'paused')]")).await;
    assert!(browser.text().await.contains("ada paused it, the committee meets on Monday"), "{}", browser.text().await);
    office.admin.post(&format!("{path}/actions"), json!({"action": "resume", "reason": "it has met"})).await.expect(200);
    // ann has tom vote for her, who is no member of the committee
    let period = json!({"granted_to": "tom", "starts_at": "2020-01-01T00:00:00Z", "ends_at": "2020-12-31T00:00:00Z", "reason": "away"});
    assert_eq!(office.ann.post("/delegations", period).await.refused(422), "invalid_delegation");
    let now = crate::office::today();
    let period = json!({"granted_to": "tom", "starts_at": format!("{}T00:00:00Z", now - chrono::Days::new(1)), "ends_at": format!("{}T00:00:00Z", now + chrono::Days::new(9)), "reason": "away"});
    office.ann.post("/delegations", period).await.expect(201);
    browser.sign_in(&stack, "tom", "treasurer").await;
    browser.client.goto(&format!("{}/approvals", stack.gateway())).await.unwrap();
    assert!(browser.picture("approvals-for-others").await > PICTURE_BYTES_MIN);
    assert!(browser.text().await.contains("for ann"), "{}", browser.text().await);
    browser.find(Locator::Css("button[value=approve]")).await.click().await.unwrap();
    browser.find(Locator::XPath("//div[contains(., 'approve by tom for ann')]")).await;
    browser.end().await;
}

#[tokio::test]
async fn a_call_is_rescinded_with_a_button_and_the_page_says_why() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (_, _, call) = office.open_call(&stack, 2, "100.00").await;
    let browser = Browser::start(&stack).await;
    browser.sign_in(&stack, "mia", "fund_manager").await;
    browser.client.goto(&format!("{}/capital-calls/{}", stack.gateway(), id(&call, "id"))).await.unwrap();
    let button = |act: &str| format!("button[value={act}]");
    browser.find(Locator::Css(&button("rescind"))).await.click().await.unwrap();
    browser.find(Locator::Css("div.problem")).await;
    assert!(browser.text().await.contains("invalid_text"), "a reason is asked for: {}", browser.text().await);
    browser.client.back().await.unwrap();
    browser.find(Locator::Css("input[name=reason]")).await.send_keys("the deal fell through").await.unwrap();
    browser.find(Locator::Css(&button("rescind"))).await.click().await.unwrap();
    browser.find(Locator::XPath("//p[contains(., 'the deal fell through')]")).await;
    let text = browser.text().await;
    assert!(text.contains("rescinded") && !text.contains("Move the due date"), "{text}");
    assert!(browser.picture("rescinded-call").await > PICTURE_BYTES_MIN);
    browser.end().await;
}

impl Browser {
    /// Fills the form of an action and sends it; then the page has this text.
    async fn act(&self, action: &str, fields: &[(&str, &str)], then: &str) {
        let form = format!("form[action='/act{action}']");
        for (name, value) in fields {
            let field = self.find(Locator::Css(&format!("{form} [name='{name}']"))).await;
            if *name == "received_on" || name.ends_with("_on") {
                let set = "arguments[0].value = arguments[1]";
                self.client.execute(set, vec![serde_json::to_value(&field).unwrap(), json!(value)]).await.unwrap();
            } else {
                field.send_keys(value).await.unwrap();
            }
        }
        self.find(Locator::Css(&format!("{form} button"))).await.click().await.unwrap();
        let shown = testkit::wait::until(Duration::from_secs(10), || async {
            let page = self.client.find(Locator::Css("main")).await;
            match page {
                Ok(page) => page.text().await.is_ok_and(|text| text.contains(then)),
                Err(_) => false,
            }
        });
        assert!(shown.await, "{then:?} is not on\n{}", self.text().await);
    }
}

#[tokio::test]
async fn cash_commitments_and_bank_entries_are_worked_on_with_forms() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, _, call) = office.open_call(&stack, 2, "100.00").await;
    let [first, second] = [0, 1].map(|place| id(&lines(&call)[place], "id"));
    let browser = Browser::start(&stack).await;
    browser.sign_in(&stack, "tom", "treasurer").await;
    let page = async |path: String| browser.client.goto(&format!("{}{path}", stack.gateway())).await.unwrap();
    page(format!("/call-lines/{first}")).await;
    let payment = [("amount", "70.00"), ("reference", "wire 1"), ("received_on", "2026-01-15")];
    browser.act(&format!("/call-lines/{first}/payments"), &payment, "overpaid").await;
    assert!(!browser.text().await.contains("Give notice"), "a treasurer gives no notice");
    assert!(browser.picture("line").await > PICTURE_BYTES_MIN);
    browser.find(Locator::Css("table a")).await.click().await.unwrap();
    browser.find(Locator::XPath("//h1[text()='Payment']")).await;
    let paid = browser.client.current_url().await.unwrap().path().to_owned();
    let refund = |amount| [("amount", amount), ("reason", "paid too much")];
    browser.act(&format!("{paid}/refunds"), &refund("20.01"), "no_credit").await;
    page(paid.clone()).await;
    browser.act(&format!("{paid}/refunds"), &refund("20.00"), "Refunded\n20.00").await;
    assert!(browser.picture("payment").await > PICTURE_BYTES_MIN);
    // an entry without a reference: accepted with a button
    office.admin.post(&format!("/funds/{}/bank-accounts", fund.id), json!({"account": "ACC1"})).await.expect(201);
    let map = json!({"name": "m", "map": {"account": {"fixed": "ACC1"}, "currency": {"fixed": "USD"}, "booked_on": "date", "amount": {"signed": {"column": "amount"}}, "payer_name": "payer", "bank_reference": "ref"}});
    office.treasurer.post("/column-maps", map).await.expect(200);
    let payer = if id(&lines(&call)[1], "investor_id") == fund.investors[0] { "Investor 0" } else { "Investor 1" };
    let csv = format!("date,amount,payer,ref\n2026-11-03,50.00,{payer},R1\n");
    let imported =
        office.treasurer.send("POST", "/bank-statements?column_map=m", Some("file-1"), Some(csv.into_bytes())).await.unwrap().expect(201);
    assert_eq!(imported["suggested"], 1, "{imported:#}");
    page("/bank-entries".into()).await;
    assert!(browser.picture("bank").await > PICTURE_BYTES_MIN);
    let entry = office.treasurer.get("/bank-entries?status=suggested").await.expect(200);
    let entry = id(&crate::office::items(&entry)[0], "id");
    browser.act(&format!("/bank-entries/{entry}/match"), &[], "To be confirmed").await;
    office.treasurer.until(&format!("/call-lines/{second}"), |line| line["status"] == "paid").await;
    // an administrator changes a commitment
    browser.sign_in(&stack, "ada", "admin").await;
    page(format!("/funds/{}/commitments", fund.id)).await;
    assert!(browser.picture("commitments").await > PICTURE_BYTES_MIN);
    browser.find(Locator::Css("table a")).await.click().await.unwrap();
    browser.find(Locator::XPath("//h2[text()='Entries']")).await;
    let commitment = browser.client.current_url().await.unwrap().path().to_owned();
    let change = [("amount", "5000.00"), ("effective_on", "2026-01-01"), ("reason", "side letter")];
    browser.act(&format!("{commitment}/changes"), &change, "side letter").await;
    assert!(browser.text().await.contains("1,005,000.00"));
    assert!(browser.picture("commitment").await > PICTURE_BYTES_MIN);
    browser.end().await;
}

#[tokio::test]
async fn a_call_is_written_previewed_and_amended_on_the_page() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(3).await;
    let allocation = office.allocation(&stack, &fund, "500000").await.to_string();
    let browser = Browser::start(&stack).await;
    browser.sign_in(&stack, "mia", "fund_manager").await;
    let page = async |path: String| browser.client.goto(&format!("{}{path}", stack.gateway())).await.unwrap();
    page(format!("/funds/{}", fund.id)).await;
    browser.find(Locator::LinkText("Write a capital call")).await.click().await.unwrap();
    let fill = async |fields: &[(&str, &str)]| {
        for (name, value) in fields {
            let field = browser.find(Locator::Css(&format!("form.written [name='{name}']"))).await;
            let set = "arguments[0].value = arguments[1]";
            browser.client.execute(set, vec![serde_json::to_value(&field).unwrap(), json!(value)]).await.unwrap();
        }
    };
    let press = async |button: &str, then: &str| {
        browser.find(Locator::XPath(&format!("//form[@class='written']//button[text()='{button}']"))).await.click().await.unwrap();
        browser.find(Locator::XPath(then)).await;
    };
    // the second row is left empty
    let investment = [("kind", "investment"), ("allocation_id", allocation.as_str()), ("amount", "100.00"), ("inside_commitment", "true")];
    let investment = investment.map(|(field, value)| (format!("purposes.0.{field}"), value));
    fill(&investment.each_ref().map(|(name, value)| (name.as_str(), *value))).await;
    fill(&[("purposes.2.kind", "expenses"), ("purposes.2.amount", "0.01"), ("purposes.2.inside_commitment", "false")]).await;
    fill(&[("due_on", "2000-01-03")]).await;
    press("Preview", "//p[contains(., 'no_commitments')]").await;
    fill(&[("due_on", "2099-12-31")]).await;
    press("Preview", "//h2[text()='What it would be']").await;
    let preview = browser.text().await;
    assert!(
        preview.contains("100.01 USD over 3 investors") && preview.contains("rounded down") && preview.contains("rounded up"),
        "{preview}"
    );
    assert!(browser.picture("call-preview").await > PICTURE_BYTES_MIN);
    let calls = office.manager.get(&format!("/capital-calls?fund_id={}", fund.id)).await.expect(200);
    assert!(crate::office::items(&calls).is_empty(), "a preview stores nothing");
    press("Keep as a draft", "//td[contains(., 'draft')]").await;
    browser.find(Locator::XPath("//h2[text()='Capital calls']/following::table//a")).await.click().await.unwrap();
    // written anew: one investor is asked for something else
    browser.find(Locator::LinkText("Write it anew")).await.click().await.unwrap();
    let asked = fund.investors[0].to_string();
    fill(&[("adjustments.1.investor_id", asked.as_str()), ("adjustments.1.amount", "50.00"), ("adjustments.1.reason", "side letter")])
        .await;
    fill(&[("reason", "as agreed")]).await;
    press("Preview", "//p[contains(., 'given')]").await;
    press("Ask for the change", "//h1[text()='Capital call']").await;
    let path = browser.client.current_url().await.unwrap().path().to_owned();
    let adjusted = office.manager.get(&path).await.expect(200);
    assert_eq!((&adjusted["adjustments"][0]["amount"], &adjusted["purposes"][1]["amount"]), (&json!("50.00"), &json!("0.01")));
    // and it is taken away again
    browser.find(Locator::LinkText("Write it anew")).await.click().await.unwrap();
    for (field, name) in ["investor_id", "amount", "reason"].map(|field| (field, format!("adjustments.0.{field}"))) {
        assert!(!browser.find(Locator::Css(&format!("[name='{name}']"))).await.prop("value").await.unwrap().unwrap().is_empty(), "{field}");
        fill(&[(&name, "")]).await;
    }
    // while somebody else writes it, too
    let by_another = async |due_on: &str| {
        office.manager.post(&format!("{path}/amend"), json!({"due_on": due_on, "reason": "sooner"})).await.expect(202);
    };
    by_another("2099-11-30").await;
    fill(&[("reason", "withdrawn")]).await;
    press("Ask for the change", "//p[contains(., 'call_says_otherwise')]").await;
    page(format!("{path}/edit")).await;
    by_another("2099-11-29").await;
    fill(&[("reason", "withdrawn")]).await;
    press("Preview", "//h2[text()='What it would be']").await;
    press("Ask for the change", "//p[contains(., 'call_says_otherwise')]").await;
    assert_eq!(office.manager.get(&path).await.expect(200)["due_on"], "2099-11-29");
    page(format!("{path}/edit")).await;
    for field in ["investor_id", "amount", "reason"] {
        fill(&[(&format!("adjustments.0.{field}"), "")]).await;
    }
    fill(&[("reason", "withdrawn")]).await;
    press("Ask for the change", "//h1[text()='Capital call']").await;
    assert_eq!(office.manager.get(&path).await.expect(200)["adjustments"], json!([]));
    // what is submitted is what was read
    by_another("2099-11-28").await;
    browser.find(Locator::Css("button[value=submit]")).await.click().await.unwrap();
    browser.find(Locator::XPath("//p[contains(., 'call_says_otherwise')]")).await;
    page(path.clone()).await;
    browser.find(Locator::Css("button[value=submit]")).await.click().await.unwrap();
    office.manager.until(&path, |call| call["decision"] == "issued").await;
    browser.end().await;
}

#[tokio::test]
async fn a_form_is_one_call_whichever_of_its_buttons_is_pressed() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    let form = office.manager.page(&format!("/funds/{}/capital-calls/new", fund.id)).await;
    let key = form.split_once("name=\"key\" value=\"").and_then(|(_, rest)| rest.split_once('"')).unwrap().0;
    let token = testkit::client::token(&stack.settings.jwt_secret, "mia", &["fund_manager"], None, 600);
    let press = async |pressed: &str, amount: &str| {
        let body = format!(
            "key={key}&due_on=2099-12-31&purposes.0.kind=expenses&purposes.0.amount={amount}&purposes.0.inside_commitment=true{pressed}"
        );
        let request = reqwest::Client::new().post(format!("{}/act/funds/{}/capital-calls", stack.gateway(), fund.id));
        let request =
            request.header("cookie", format!("tranche_token={token}")).header("content-type", "application/x-www-form-urlencoded");
        let response = request.body(body).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    for _ in 0..2 {
        let (status, page) = press("&draft=true", "100.00").await;
        assert!(status < 400, "{status} {page}");
    }
    for (pressed, amount) in [("", "100.00"), ("&draft=true", "1000.00")] {
        let (status, page) = press(pressed, amount).await;
        assert!(status == 409 && page.contains("idempotency_key_reused"), "{status} {page}");
    }
    let calls = office.manager.get(&format!("/capital-calls?fund_id={}", fund.id)).await.expect(200);
    assert_eq!(crate::office::items(&calls).len(), 1);
}

#[tokio::test]
async fn investors_join_are_excused_and_pay_by_forms_and_a_statement_is_sent() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let (fund, _, call) = office.open_call(&stack, 1, "100.00").await;
    let browser = Browser::start(&stack).await;
    browser.sign_in(&stack, "ada", "admin").await;
    let page = async |path: String| browser.client.goto(&format!("{}{path}", stack.gateway())).await.unwrap();
    page("/investors".into()).await;
    browser.act("/investors", &[("name", "Teachers' Pension"), ("investor_type", "pension_fund")], "Teachers' Pension").await;
    let investors = office.admin.get("/investors").await.expect(200);
    let joined = crate::office::items(&investors).iter().find(|investor| investor["name"] == "Teachers' Pension").unwrap().clone();
    let commitments = format!("/funds/{}/commitments", fund.id);
    page(commitments.clone()).await;
    let first = [("investor_id", joined["id"].as_str().unwrap()), ("amount", "1000.00"), ("effective_on", "2026-01-01")];
    browser.act(&commitments, &first, "Teachers' Pension").await;
    page(format!("/bank-details?fund_id={}", fund.id)).await;
    browser.act(&format!("/funds/{}/bank-accounts", fund.id), &[("account", "ACC1")], "****1 (USD)").await;
    // who calls excuses
    browser.sign_in(&stack, "mia", "fund_manager").await;
    page(commitments.clone()).await;
    browser.find(Locator::LinkText("Teachers' Pension")).await.click().await.unwrap();
    browser.find(Locator::XPath("//h2[text()='Entries']")).await;
    let commitment = browser.client.current_url().await.unwrap().path().to_owned();
    browser.act(&format!("{commitment}/excuses"), &[("reason", "its policy")], "Commitment of").await;
    assert_eq!(office.manager.get(&commitment).await.expect(200)["excused_from"].as_array().map(Vec::len), Some(1));
    // cash: a receipt, and a file
    browser.sign_in(&stack, "tom", "treasurer").await;
    let line = id(&lines(&call)[0], "id");
    page(format!("/call-lines/{line}")).await;
    browser.act("/receipts", &[("amount", "60.00"), ("reference", "wire 1"), ("received_on", "2026-01-15")], "60.00").await;
    page("/column-maps".into()).await;
    let map = json!({"account": {"fixed": "ACC1"}, "currency": {"fixed": "USD"}, "booked_on": "date", "amount": {"signed": {"column": "amount"}},
                     "creditor_reference": "reference", "bank_reference": "id"});
    browser.act("/column-maps", &[("name", "house bank"), ("map{}", "{")], "malformed_request").await;
    page("/column-maps".into()).await;
    browser.act("/column-maps", &[("name", "house bank"), ("map{}", &map.to_string())], "Saved by tom").await;
    let file = stack.folder().join("statement.csv");
    let reference = lines(&call)[0]["reference"].as_str().unwrap().to_owned();
    let send = async |text: String, then: &str| {
        std::fs::write(&file, text).unwrap();
        page("/bank-entries".into()).await;
        browser.find(Locator::Css("option[value='house bank']")).await.click().await.unwrap();
        browser.find(Locator::Css("input[type=file]")).await.send_keys(&file.display().to_string()).await.unwrap();
        browser.find(Locator::XPath("//button[text()='Import']")).await.click().await.unwrap();
        browser.find(Locator::XPath(then)).await;
    };
    send("date,amount,reference,id\n2026-11-33,40.00,,1\n".into(), "//p[contains(., 'line 2')]").await;
    send(format!("date,amount,reference,id\n2026-11-03,40.00,{reference},1\n"), "//h1[text()='Bank statement statement.csv']").await;
    assert!(browser.text().await.contains("Matched\n1"), "{}", browser.text().await);
    assert!(browser.picture("statement").await > PICTURE_BYTES_MIN);
    office.treasurer.until(&format!("/call-lines/{line}"), |line| line["status"] == "paid").await;
    browser.end().await;
}

#[tokio::test]
async fn who_pays_when_is_on_pages_and_those_who_see_figures_only_see_no_more() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    let fund = office.fund(2).await;
    let allocation = office.allocation(&stack, &fund, "500000").await;
    let call = office.call(&fund, allocation, "100.00", "2026-03-31").await;
    let line = id(&lines(&call)[0], "id");
    let paid = crate::office::payment_on("50.00", "late", "2026-04-10");
    let paid = office.treasurer.post(&format!("/call-lines/{line}/payments"), paid).await.expect(201);
    office.manager.until(&format!("/funds/{}/collections", fund.id), |page| page["items"][0]["total"]["lines_late"] == 1).await;
    let browser = Browser::start(&stack).await;
    let page = async |path: &str| browser.client.goto(&format!("{}{path}", stack.gateway())).await.unwrap();
    browser.sign_in(&stack, "mia", "fund_manager").await;
    browser.find(Locator::LinkText("Collections of all funds")).await.click().await.unwrap();
    browser.find(Locator::XPath("//h2[text()='By month in USD']")).await;
    let of_all = browser.text().await;
    assert!(of_all.contains("Collected by amount\n50.0 %") && of_all.contains("Lines paid late\n1"), "{of_all}");
    assert!(browser.picture("portfolio-collections").await > PICTURE_BYTES_MIN);
    page(&format!("/funds/{}/collections?as_of=2026-04-20", fund.id)).await;
    let of_fund = browser.text().await;
    assert!(of_fund.contains("16 to 30 days 1 50.00") && of_fund.contains("Median, days from the due date\n10"), "{of_fund}");
    browser.find(Locator::XPath("//h2[text()='Days to fund by investor']/following::table//a")).await.click().await.unwrap();
    browser
        .client
        .wait()
        .at_most(Duration::from_secs(10))
        .for_element(Locator::XPath("//h1[starts-with(., 'How Investor')]"))
        .await
        .unwrap();
    assert!(browser.picture("investor-collections").await > PICTURE_BYTES_MIN);
    page("/portfolio/collections?as_of=yesterday").await;
    assert!(browser.text().await.contains("malformed_request"));
    // an executive sees the figures, and by no page more than by the API
    browser.sign_in(&stack, "eve", "executive").await;
    page(&format!("/funds/{}", fund.id)).await;
    let figures = browser.text().await;
    assert!(figures.contains("Collection rate") && !figures.contains("Investor"), "{figures}");
    page(&format!("/funds/{}/collections", fund.id)).await;
    let figures = browser.text().await;
    assert!(figures.contains("Collected in USD") && !figures.contains("Investor"), "{figures}");
    let investor = fund.investors[0];
    let closed = [
        format!("/investors/{investor}/collections"),
        format!("/funds/{}/commitments", fund.id),
        format!("/capital-calls/{}", id(&call, "id")),
        format!("/call-lines/{line}"),
        format!("/payments/{}", id(&paid, "id")),
        format!("/bank-details?fund_id={}", fund.id),
        format!("/funds/{}/capital-calls/new", fund.id),
        "/investors".into(),
        "/column-maps".into(),
        "/refunds".into(),
        "/bank-entries".into(),
        "/approvals".into(),
        "/workflows".into(),
    ];
    for path in closed {
        page(&path).await;
        assert!(browser.text().await.contains("Code: forbidden"), "{path}: {}", browser.text().await);
    }
    browser.end().await;
}

#[tokio::test]
async fn without_a_good_token_there_is_only_the_sign_in_page() {
    let stack = Stack::start().await;
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    for path in [
        "/",
        "/approvals",
        "/funds/x",
        "/capital-calls/x",
        "/call-lines/x",
        "/payments/x",
        "/bank-entries",
        "/refunds",
        "/commitments/x",
        "/workflows",
    ] {
        let reply = http.get(format!("{}{path}", stack.gateway())).send().await.unwrap();
        assert_eq!((reply.status().as_u16(), reply.headers()["location"].to_str().unwrap()), (303, "/sign-in"), "{path}");
        assert!(reply.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    }
    let refused = http
        .post(format!("{}/sign-in", stack.gateway()))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("token=nonsense")
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status().as_u16(), 401);
    assert!(refused.text().await.unwrap().contains("not valid"));
    // what the type of a refusal leads to is for everybody
    let problem = http.get(format!("{}/problems/over_capacity", stack.gateway())).send().await.unwrap();
    assert!(problem.status().is_success() && problem.text().await.unwrap().contains("What to do"));
    assert_eq!(http.get(format!("{}/problems/nonsense", stack.gateway())).send().await.unwrap().status().as_u16(), 404);
    // the docs of the API are served from the binary itself
    let docs = http.get(format!("{}/api/docs/", stack.gateway())).send().await.unwrap();
    assert!(docs.status().is_success() && docs.text().await.unwrap().contains("swagger"));
}
