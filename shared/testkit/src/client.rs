//! A client of the HTTP API, as a stranger would write it.

use std::time::{Duration, Instant};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use uuid::Uuid;

/// A service that runs says within this time whether it is ready; one that is stopped or stalled does not.
const READINESS_WITHIN: Duration = Duration::from_secs(2);
/// How long a request is repeated while it is asked for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two of them.
const PAUSE: Duration = Duration::from_millis(200);

/// An answer of the API.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The body; null when it is no JSON.
    pub body: Value,
    /// Whether it was given before.
    pub replayed: bool,
    /// Content-Type.
    pub content_type: String,
    /// ETag.
    pub etag: Option<String>,
}

impl Reply {
    /// A text field of the body.
    pub fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_default().to_owned()
    }
    /// The body of an answer with this status; panics with the body otherwise.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{:#}", self.body);
        self.body
    }
    /// The code of a refusal with this status.
    #[track_caller]
    pub fn refused(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{:#}", self.body);
        assert_eq!(self.content_type, "application/problem+json");
        assert!(!self.text("recommendation").is_empty(), "{:#}", self.body);
        self.text("code")
    }
}

/// One user of the API.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// Signs a token for the local stack.
pub fn token(secret: &str, user: &str, roles: &[&str], funds: Option<&[Uuid]>, seconds: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let expires = i64::try_from(now).unwrap_or(i64::MAX).saturating_add(seconds);
    let mut claims = json!({"sub": user, "roles": roles, "iss": "tranche", "aud": "tranche", "exp": expires});
    if let Some(funds) = funds {
        claims["funds"] = json!(funds);
    }
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap_or_default()
}

/// What a service says of itself on `/readyz`; none when it does not answer soon.
pub async fn readiness(url: &str) -> Option<Value> {
    let reply = reqwest::Client::new().get(format!("{url}/readyz")).timeout(READINESS_WITHIN).send().await.ok()?;
    reply.json().await.ok()
}

impl Client {
    /// A client of the gateway at `base`.
    pub fn new(base: &str, token: Option<String>) -> Client {
        Client { http: reqwest::Client::new(), base: base.to_owned(), token }
    }

    /// Sends a request under `/api/v1`; an error is a connection that failed.
    pub async fn send(&self, method: &str, path: &str, key: Option<&str>, body: Option<Vec<u8>>) -> Result<Reply, String> {
        let method = method.parse().map_err(|_| "method".to_owned())?;
        let mut request = self.http.request(method, format!("{}/api/v1{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request.send().await.map_err(|error| error.to_string())?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (status, replayed) = (response.status().as_u16(), header("idempotent-replayed").as_deref() == Some("true"));
        let (content_type, etag) = (header("content-type").unwrap_or_default(), header("etag"));
        let bytes = response.bytes().await.map_err(|error| error.to_string())?;
        Ok(Reply { status, body: serde_json::from_slice(&bytes).unwrap_or_default(), replayed, content_type, etag })
    }

    /// GET; panics when the connection fails.
    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None, None).await.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// POST with a new idempotency key; panics when the connection fails.
    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.post_as(path, &Uuid::now_v7().to_string(), body).await
    }

    /// POST with this idempotency key; panics when the connection fails.
    pub async fn post_as(&self, path: &str, key: &str, body: Value) -> Reply {
        self.send("POST", path, Some(key), Some(body.to_string().into_bytes())).await.unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// POST with this idempotency key, repeated while the answer asks for that (429 and 503), for a minute at most.
    pub async fn post_patiently(&self, path: &str, key: &str, body: &Value) -> Reply {
        let since = Instant::now();
        loop {
            let reply = self.post_as(path, key, body.clone()).await;
            if !matches!(reply.status, 429 | 503) || since.elapsed() > PATIENCE {
                return reply;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// PUT; panics when the connection fails.
    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.send("PUT", path, None, Some(body.to_string().into_bytes())).await.unwrap_or_else(|error| panic!("PUT {path}: {error}"))
    }

    /// A page, as a browser of this user gets it; panics when the connection fails.
    pub async fn page(&self, path: &str) -> String {
        let cookie = format!("tranche_token={}", self.token.as_deref().unwrap_or_default());
        let sent = self.http.get(format!("{}{path}", self.base)).header("cookie", cookie).send().await;
        let response = sent.unwrap_or_else(|error| panic!("GET {path}: {error}"));
        response.text().await.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// GET until the body is as wanted; panics with the last answer when it never is.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let since = std::time::Instant::now();
        loop {
            let reply = self.get(path).await;
            if reply.status == 200 && wanted(&reply.body) {
                return reply.body;
            }
            assert!(
                since.elapsed() < std::time::Duration::from_secs(20),
                "GET {path} never became as wanted: {} {:#}",
                reply.status,
                reply.body
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}
