//! Who may ask what: roles and tokens.

use ::domain::{Actor, Reason, Rejection, Scope};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub mod parallel_run;

/// A role of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it; what each may is in the constants below")]
pub enum Role {
    Analyst,
    FundManager,
    Committee,
    Treasurer,
    Auditor,
    Executive,
    Admin,
}

use Role::{Admin, Analyst, Auditor, Committee, Executive, FundManager, Treasurer};

/// Funds, investors, commitments, rules.
pub const ADMIN: &[Role] = &[Admin];
/// Who may propose allocations.
pub const PROPOSERS: &[Role] = &[Analyst, FundManager];
/// Who may call capital.
pub const CALLERS: &[Role] = &[FundManager];
/// Who may vote, where the rules ask for the role.
pub const VOTERS: &[Role] = &[Committee, FundManager, Treasurer];
/// Who may take a delegation back: who granted it, or who looks after the system.
pub const DELEGATORS: &[Role] = &[Committee, FundManager, Treasurer, Admin];
/// Who may record and reverse payments.
pub const TREASURY: &[Role] = &[Treasurer];
/// Whoever may have made a request, and those who look after workflows; workflow itself says who may do what.
pub const REQUESTERS: &[Role] = &[Analyst, FundManager, Treasurer, Admin];
/// Who may vote on changes of rules that somebody else has written.
pub const RULE_KEEPERS: &[Role] = &[Role::Committee, Admin];
/// Who may propose, confirm and see bank details in full.
pub const BANKERS: &[Role] = &[Treasurer, Admin];
/// Who may see the audit record.
pub const AUDITORS: &[Role] = &[Auditor];
/// Who may see messages that could not be handled.
pub const KEEPERS: &[Role] = &[Admin, Auditor];
/// Who may see single funds' business.
pub const READERS: &[Role] = &[Analyst, FundManager, Committee, Treasurer, Auditor, Admin];
/// Who may see funds and figures.
pub const EVERYONE: &[Role] = &[Analyst, FundManager, Committee, Treasurer, Auditor, Executive, Admin];

impl Role {
    /// The name in a token.
    pub fn name(self) -> String {
        chassis::row::name(&self)
    }
}

/// Refuses an actor who has none of the roles.
pub fn check_role(actor: &Actor, allowed: &[Role]) -> Result<(), Rejection> {
    let names: Vec<String> = allowed.iter().map(|role| role.name()).collect();
    if actor.roles.iter().any(|role| names.contains(role)) {
        return Ok(());
    }
    Err(Reason::Forbidden.with(format!(
        "{} has the roles [{}], one of [{}] is needed",
        actor.user,
        actor.roles.join(", "),
        names.join(", ")
    )))
}

/// The claims of a token. Without `funds` it is good for every fund.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: String,
    /// The roles.
    pub roles: Vec<String>,
    /// The funds that the user may see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub funds: Option<Vec<Uuid>>,
    /// When it expires, in seconds since 1970.
    pub exp: u64,
}

/// Issuer and audience of tokens where `JWT_ISSUER` and `JWT_AUDIENCE` are not set: the local stack's.
const TRANCHE: &str = "tranche";
/// Seconds by which the clocks of issuer and gateway may differ.
const LEEWAY_SECONDS: u64 = 5;

/// Checks tokens.
pub struct Tokens {
    key: DecodingKey,
    validation: Validation,
}

impl Tokens {
    /// `JWT_PUBLIC_KEY_FILE` (PEM, for `JWT_ALGORITHM`: RS256, ES256 or EdDSA) of an identity provider, or
    /// `JWT_SECRET` (HS256) for the local stack.
    pub fn from_environment() -> Result<Tokens, String> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(file) = set("JWT_PUBLIC_KEY_FILE") {
            let pem = std::fs::read(&file).map_err(|error| format!("JWT_PUBLIC_KEY_FILE {file}: {error}"))?;
            let (algorithm, key) = match set("JWT_ALGORITHM").as_deref() {
                None | Some("RS256") => (Algorithm::RS256, DecodingKey::from_rsa_pem(&pem)),
                Some("ES256") => (Algorithm::ES256, DecodingKey::from_ec_pem(&pem)),
                Some("EdDSA") => (Algorithm::EdDSA, DecodingKey::from_ed_pem(&pem)),
                Some(other) => return Err(format!("JWT_ALGORITHM {other} is not RS256, ES256 or EdDSA")),
            };
            return Ok(Tokens::new(algorithm, key.map_err(|error| format!("JWT_PUBLIC_KEY_FILE {file}: {error}"))?));
        }
        match set("JWT_SECRET") {
            Some(secret) if secret.len() >= 32 => Ok(Tokens::new(Algorithm::HS256, DecodingKey::from_secret(secret.as_bytes()))),
            Some(_) => Err("JWT_SECRET is shorter than 32 characters".into()),
            None => Err("neither JWT_PUBLIC_KEY_FILE nor JWT_SECRET is set; see .env.example".into()),
        }
    }

    fn new(algorithm: Algorithm, key: DecodingKey) -> Tokens {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| TRANCHE.into());
        validation.set_issuer(&[set("JWT_ISSUER")]);
        validation.set_audience(&[set("JWT_AUDIENCE")]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Tokens { key, validation }
    }

    /// The actor that a token names.
    pub fn actor(&self, token: Option<&str>) -> Result<Actor, Rejection> {
        let token = token.ok_or_else(|| Reason::Unauthenticated.with("no bearer token was sent"))?;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation)
            .map_err(|error| Reason::Unauthenticated.with(format!("the bearer token is not valid: {error}")))?
            .claims;
        if claims.sub.is_empty() || claims.sub.len() > 200 || claims.sub.starts_with("service:") || claims.sub.chars().any(char::is_control)
        {
            return Err(Reason::Unauthenticated.with("the bearer token names no user"));
        }
        Ok(Actor { user: claims.sub, roles: claims.roles, scope: claims.funds.map_or(Scope::All, Scope::Funds) })
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn token(claims: serde_json::Value, secret: &[u8]) -> String {
        jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    #[test]
    fn only_our_own_unexpired_tokens_are_good() {
        let tokens = Tokens::new(Algorithm::HS256, DecodingKey::from_secret(SECRET));
        let good = json!({"sub": "ann", "roles": ["analyst"], "iss": "tranche", "aud": "tranche", "exp": 4_000_000_000u64});
        assert_eq!(tokens.actor(Some(&token(good.clone(), SECRET))).unwrap().user, "ann");
        let with = |name: &str, value: serde_json::Value| {
            let mut claims = good.clone();
            claims[name] = value;
            token(claims, SECRET)
        };
        let none = json!({"alg": "none", "typ": "JWT"});
        for bad in [
            token(good.clone(), b"another secret another secret!!!"),
            with("exp", json!(1_000_000_000)),
            with("iss", json!("someone")),
            with("aud", json!("other")),
            with("sub", json!("")),
            with("sub", json!("service:workflow")),
            with("roles", json!("analyst")),
            with("funds", json!(["all"])),
            format!("{none}..."),
            "x.y.z".to_owned(),
        ] {
            assert_eq!(tokens.actor(Some(&bad)).unwrap_err().reason, Reason::Unauthenticated);
        }
        assert_eq!(tokens.actor(None).unwrap_err().reason, Reason::Unauthenticated);
        assert_eq!(tokens.actor(Some(&with("funds", json!([])))).unwrap().scope, Scope::Funds(vec![]), "an empty list is no fund, not all");
    }

    #[test]
    fn roles_are_kept_apart() {
        let actor = Actor { user: "ann".into(), roles: vec!["admin".into()], scope: Scope::All };
        assert!(check_role(&actor, ADMIN).is_ok());
        for others in [TREASURY, VOTERS, CALLERS, AUDITORS] {
            assert_eq!(check_role(&actor, others).unwrap_err().reason, Reason::Forbidden);
        }
    }
}
