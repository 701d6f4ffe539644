//! The page in a real browser: signed in with a token, looked at, clicked, and updated live.

use std::process::Command;
use std::time::Duration;

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
        self.client.goto(&format!("{}/sign-in", stack.gateway())).await.unwrap();
        self.client.find(Locator::Id("token")).await.unwrap().send_keys(&token).await.unwrap();
        self.client.find(Locator::Css("main button")).await.unwrap().click().await.unwrap();
        self.client.wait().at_most(Duration::from_secs(10)).for_element(Locator::XPath("//h1[text()='Funds']")).await.unwrap();
    }

    async fn text(&self) -> String {
        self.client.find(Locator::Css("main")).await.unwrap().text().await.unwrap()
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
    let bar = browser.client.find(Locator::Css("svg.bar")).await.unwrap().attr("aria-label").await.unwrap().unwrap();
    assert!(bar.starts_with("called 0") && bar.contains("paid 0"), "{bar}");
    assert!(browser.picture("funds").await > PICTURE_BYTES_MIN);

    browser.client.find(Locator::Css("table a")).await.unwrap().click().await.unwrap();
    browser.client.wait().at_most(Duration::from_secs(10)).for_element(Locator::XPath("//h2[text()='Capital calls']")).await.unwrap();
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
        browser.client.find(Locator::Css("button[value=approve]")).await.unwrap().click().await.unwrap();
        browser.client.wait().at_most(Duration::from_secs(10)).for_element(Locator::XPath("//h2[text()='Waiting for me']")).await.unwrap();
        let gone = testkit::wait::until(Duration::from_secs(10), || async {
            browser.client.find(Locator::Css("button[value=approve]")).await.is_err()
        });
        assert!(gone.await, "{}", browser.text().await);
    }
    office.manager.until(&format!("/allocations/{allocation}"), |allocation| allocation["decision"] == "active").await;
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
    browser.client.find(Locator::Css(&button("rescind"))).await.unwrap().click().await.unwrap();
    browser.client.wait().for_element(Locator::Css("div.problem")).await.unwrap();
    assert!(browser.text().await.contains("invalid_text"), "a reason is asked for: {}", browser.text().await);
    browser.client.back().await.unwrap();
    browser.client.wait().for_element(Locator::Css("input[name=reason]")).await.unwrap().send_keys("the deal fell through").await.unwrap();
    browser.client.find(Locator::Css(&button("rescind"))).await.unwrap().click().await.unwrap();
    browser.client.wait().for_element(Locator::XPath("//p[contains(., 'the deal fell through')]")).await.unwrap();
    let text = browser.text().await;
    assert!(text.contains("rescinded") && !text.contains("Move the due date"), "{text}");
    assert!(browser.picture("rescinded-call").await > 10_000);
}

#[tokio::test]
async fn without_a_good_token_there_is_only_the_sign_in_page() {
    let stack = Stack::start().await;
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    for path in ["/", "/approvals", "/funds/x", "/capital-calls/x"] {
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
    // the docs of the API are served from the binary itself
    let docs = http.get(format!("{}/api/docs/", stack.gateway())).send().await.unwrap();
    assert!(docs.status().is_success() && docs.text().await.unwrap().contains("swagger"));
}
