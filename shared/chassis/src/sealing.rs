//! What is kept secret at rest: envelope encryption of single records, and an index by which a sealed value is found again.
//!
//! Each record has a data key of its own (AES-256-GCM). The data key is wrapped under a key of the file `ENCRYPTION_KEYS_FILE`, and
//! both are bound to the record's table and id: what is copied into another row does not open. The file holds one key a line, its name
//! and 32 bytes in base64; the first one wraps, all of them open. It is read whenever something is sealed or opened, so that keys
//! come and go without a restart: put a new key below, then, when every replica has the file, on top, run `rotate-keys`, and
//! take the old one out when that says that nothing needs it any more.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::database::{Database, Tx};
use crate::fault::Fault;
use crate::limits;

/// Bytes of a key: AES-256, and HMAC-SHA-256.
const KEY_BYTES: usize = 32;
/// Table of what services keep secret for themselves.
const SECRETS: &str = "sealed_secrets";
/// The key of the index by which sealed values are found, in [`SECRETS`].
const INDEX_KEY: Uuid = Uuid::from_u128(1);
/// Digits of an index: 128 bits, so that two values never share one.
const INDEX_DIGITS: usize = 32;

/// A record that is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Name of the key that wraps the data key.
    pub key_id: String,
    /// The record's data key, wrapped.
    pub wrapped_key: Vec<u8>,
    /// The record.
    pub body: Vec<u8>,
}

/// The keys of the file.
pub struct Keys {
    first: String,
    by_name: HashMap<String, RandomizedNonceKey>,
}

impl Keys {
    async fn read(file: Option<&str>) -> Result<Keys, Fault> {
        let file = file.ok_or_else(|| Fault::Fatal("ENCRYPTION_KEYS_FILE is not set; see .env.example".into()))?;
        // it may be replaced just now
        let text =
            tokio::fs::read_to_string(file).await.map_err(|error| Fault::Transient(format!("ENCRYPTION_KEYS_FILE {file}: {error}")))?;
        Keys::parse(&text).map_err(|why| Fault::Transient(format!("ENCRYPTION_KEYS_FILE {file}: {why}")))
    }

    fn parse(text: &str) -> Result<Keys, String> {
        let mut by_name = HashMap::new();
        let mut first = None;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refuse = |why: &str| format!("line {}: {why}", number + 1);
            let (name, key) = line.split_once(' ').ok_or_else(|| refuse("expected a name, a blank, and a key in base64"))?;
            let key = BASE64.decode(key.trim()).map_err(|_| refuse("the key is not base64"))?;
            let key = RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| refuse("the key does not have 32 bytes"))?;
            if by_name.insert(name.to_owned(), key).is_some() {
                return Err(refuse("a name stands twice"));
            }
            first.get_or_insert_with(|| name.to_owned());
        }
        Ok(Keys { first: first.ok_or("there is no key")?, by_name })
    }

    fn key(&self, name: &str) -> Result<&RandomizedNonceKey, Fault> {
        // transient: the file may be on its way to this replica
        self.by_name.get(name).ok_or_else(|| Fault::Transient(format!("key {name} is not in ENCRYPTION_KEYS_FILE")))
    }

    /// Seals a record of a table.
    pub fn seal(&self, table: &str, id: Uuid, plain: &[u8]) -> Result<Sealed, Fault> {
        let data_key = random()?;
        let about = about(table, id);
        let body = encrypt(&RandomizedNonceKey::new(&AES_256_GCM, &data_key).map_err(|_| broken())?, &about, plain)?;
        Ok(Sealed { key_id: self.first.clone(), wrapped_key: encrypt(self.key(&self.first)?, &about, &data_key)?, body })
    }

    /// Opens a record of a table. The fault is fatal when it was changed, or is another row's.
    pub fn open(&self, table: &str, id: Uuid, sealed: &Sealed) -> Result<Vec<u8>, Fault> {
        let about = about(table, id);
        let data_key = decrypt(self.key(&sealed.key_id)?, &about, &sealed.wrapped_key)?;
        decrypt(&RandomizedNonceKey::new(&AES_256_GCM, &data_key).map_err(|_| broken())?, &about, &sealed.body)
    }

    /// Wraps a data key anew, under the first key.
    fn wrap_again(&self, table: &str, id: Uuid, key_id: &str, wrapped_key: &[u8]) -> Result<Vec<u8>, Fault> {
        let about = about(table, id);
        encrypt(self.key(&self.first)?, &about, &decrypt(self.key(key_id)?, &about, wrapped_key)?)
    }
}

fn about(table: &str, id: Uuid) -> String {
    format!("{table}/{id}")
}

fn broken() -> Fault {
    Fault::Fatal("the system's random numbers or its cipher do not work".into())
}

fn random() -> Result<[u8; KEY_BYTES], Fault> {
    let mut bytes = [0; KEY_BYTES];
    rand::fill(&mut bytes).map_err(|_| broken())?;
    Ok(bytes)
}

fn encrypt(key: &RandomizedNonceKey, about: &str, plain: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut text = plain.to_vec();
    let nonce = key.seal_in_place_append_tag(Aad::from(about), &mut text).map_err(|_| broken())?;
    Ok([nonce.as_ref().as_slice(), &text].concat())
}

fn decrypt(key: &RandomizedNonceKey, about: &str, sealed: &[u8]) -> Result<Vec<u8>, Fault> {
    let opened = sealed.split_at_checked(NONCE_LEN).and_then(|(nonce, text)| {
        let mut text = text.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        key.open_in_place(nonce, Aad::from(about), &mut text).ok().map(|plain| plain.to_vec())
    });
    opened.ok_or_else(|| Fault::Fatal(format!("{about} does not open: it was changed, or belongs to another row")))
}

/// Finds sealed values: equal values have equal indexes, and without the key nobody tells the value from its index.
pub struct BlindIndex(hmac::Key);

impl BlindIndex {
    /// The index of a value: 32 hexadecimal digits.
    pub fn of(&self, value: &str) -> String {
        let tag = hmac::sign(&self.0, value.as_bytes());
        hex::encode(&tag.as_ref()[..INDEX_DIGITS / 2])
    }
}

impl Tx {
    /// The keys with which records are sealed and opened.
    pub async fn keys(&self) -> Result<Keys, Fault> {
        Keys::read(self.database().keys_file()).await
    }

    /// The index by which sealed values of this service are found; its key is sealed itself, and made when it is first asked for.
    pub async fn blind_index(&mut self) -> Result<BlindIndex, Fault> {
        let keys = self.keys().await?;
        let known = "select key_id, wrapped_key, body from sealed_secrets where id = $1";
        let sealed = match sqlx::query(known).bind(INDEX_KEY).try_map(|row| sealed(&row)).fetch_optional(&mut **self).await? {
            Some(sealed) => sealed,
            None => {
                let new = keys.seal(SECRETS, INDEX_KEY, &random()?)?;
                // who comes second waits here for the first, and takes the first one's
                sqlx::query("insert into sealed_secrets (id, key_id, wrapped_key, body) values ($1, $2, $3, $4) on conflict do nothing")
                    .bind(INDEX_KEY)
                    .bind(&new.key_id)
                    .bind(&new.wrapped_key)
                    .bind(&new.body)
                    .execute(&mut **self)
                    .await?;
                sqlx::query(known).bind(INDEX_KEY).try_map(|row| sealed(&row)).fetch_one(&mut **self).await?
            }
        };
        Ok(BlindIndex(hmac::Key::new(hmac::HMAC_SHA256, &keys.open(SECRETS, INDEX_KEY, &sealed)?)))
    }
}

/// The columns `key_id`, `wrapped_key` and `body` of a row.
pub fn sealed(row: &PgRow) -> Result<Sealed, sqlx::Error> {
    Ok(Sealed { key_id: row.try_get("key_id")?, wrapped_key: row.try_get("wrapped_key")?, body: row.try_get("body")? })
}

/// Wraps the data keys of these tables under the first key of the file, a slice at a time; the service may serve meanwhile. Says which
/// keys are no longer needed. If the process dies in between, the rest is done by the next run.
pub(crate) async fn rotate(database: &Database, tables: &[&str]) -> Result<String, Fault> {
    let keys = Keys::read(database.keys_file()).await?;
    let mut wrapped = 0;
    let mut needed = Vec::new();
    for table in tables.iter().chain([&SECRETS]) {
        loop {
            let done = rotate_slice(database, &keys, table).await?;
            wrapped += done;
            if done == 0 {
                break;
            }
        }
        let mut tx = database.begin().await?;
        // whoever has read an older file is done, and what it wrote is seen
        sqlx::query(&format!("lock table {table} in share mode")).execute(&mut *tx).await?;
        let names: Vec<String> = sqlx::query_scalar(&format!("select distinct key_id from {table}")).fetch_all(&mut *tx).await?;
        needed.extend(names);
    }
    let mut unneeded: Vec<&str> =
        keys.by_name.keys().map(String::as_str).filter(|name| !needed.iter().any(|needed| needed == name)).collect();
    unneeded.retain(|name| *name != keys.first);
    unneeded.sort_unstable();
    let advice = if unneeded.is_empty() { "no other key is left".into() } else { format!("no longer needed: {}", unneeded.join(", ")) };
    Ok(format!("{wrapped} data keys wrapped under {}; {advice}", keys.first))
}

async fn rotate_slice(database: &Database, keys: &Keys, table: &str) -> Result<usize, Fault> {
    let mut tx = database.begin().await?;
    // whoever writes one of them just now writes it as it is, under the first key or, while its file is old, for the next run
    let rows: Vec<(Uuid, String, Vec<u8>)> =
        sqlx::query_as(&format!("select id, key_id, wrapped_key from {table} where key_id <> $1 order by id limit $2 for no key update"))
            .bind(&keys.first)
            .bind(limits::ROTATED_TOGETHER)
            .fetch_all(&mut *tx)
            .await?;
    let mut again = Vec::with_capacity(rows.len());
    for (id, key_id, wrapped_key) in &rows {
        again.push(keys.wrap_again(table, *id, key_id, wrapped_key)?);
    }
    sqlx::query(&format!(
        "update {table} set key_id = $1, wrapped_key = new.wrapped_key
         from unnest($2::uuid[], $3::bytea[]) as new (id, wrapped_key) where {table}.id = new.id"
    ))
    .bind(&keys.first)
    .bind(rows.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
    .bind(again)
    .execute(&mut *tx)
    .await?;
    tx.commit_silently().await?;
    Ok(rows.len())
}

/// What keeps a hash of a short secret from being guessed: 32 random hexadecimal digits.
pub fn salt() -> Result<String, Fault> {
    Ok(hex::encode(&random()?[..INDEX_DIGITS / 2]))
}

/// A line with a new key for the file.
pub(crate) fn new_key() -> Result<String, Fault> {
    Ok(format!("key-{} {}\n", hex::encode(&random()?[..4]), BASE64.encode(random()?)))
}

/// Puts a new key on top of a file, which only its owner may read; makes the file where there is none.
pub(crate) fn write_new_key(file: &str) -> Result<(), Fault> {
    let fault = |error: std::io::Error| Fault::Fatal(format!("ENCRYPTION_KEYS_FILE {file}: {error}"));
    let known = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.map_err(fault)?,
    };
    let beside = Path::new(file).with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut new = options.open(&beside).map_err(fault)?;
    new.write_all(format!("{}{known}", new_key()?).as_bytes()).and_then(|()| new.sync_all()).map_err(fault)?;
    std::fs::rename(&beside, file).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(lines: &[&str]) -> Keys {
        Keys::parse(&lines.concat()).unwrap()
    }

    #[test]
    fn a_record_opens_in_its_own_row_only_and_under_a_new_key_after_the_old_one_is_gone() {
        let (old, new) = (new_key().unwrap(), new_key().unwrap());
        let (id, other) = (Uuid::from_u128(7), Uuid::from_u128(8));
        let sealed = keys(&[&old]).seal("bank_details", id, b"DE89").unwrap();
        assert!(!sealed.body.windows(4).any(|part| part == b"DE89"));
        let both = keys(&[&new, &old]);
        assert_eq!(both.open("bank_details", id, &sealed).unwrap(), b"DE89");
        for (table, id) in [("bank_details", other), ("others", id)] {
            assert!(both.open(table, id, &sealed).unwrap_err().to_string().contains("another row"));
        }
        let mut changed = sealed.clone();
        *changed.body.last_mut().unwrap() ^= 1;
        assert!(both.open("bank_details", id, &changed).is_err());
        let wrapped_key = both.wrap_again("bank_details", id, &sealed.key_id, &sealed.wrapped_key).unwrap();
        let again = Sealed { key_id: both.first.clone(), wrapped_key, body: sealed.body.clone() };
        assert_eq!(keys(&[&new]).open("bank_details", id, &again).unwrap(), b"DE89");
        let missing = keys(&[&new]).open("bank_details", id, &sealed).unwrap_err();
        assert!(matches!(&missing, Fault::Transient(why) if why.contains(&sealed.key_id)), "{missing}");
    }

    #[test]
    fn a_file_of_keys_says_which_line_is_wrong() {
        let good = new_key().unwrap();
        let twice = format!("{good}{good}");
        for (text, why) in [
            ("", "there is no key"),
            ("# only a comment\n", "there is no key"),
            ("name", "line 1: expected a name"),
            ("name !", "line 1: the key is not base64"),
            ("\nname AAAA", "line 2: the key does not have 32 bytes"),
            (&twice, "line 2: a name stands twice"),
        ] {
            let Err(refused) = Keys::parse(text) else { panic!("{text:?} is read") };
            assert!(refused.starts_with(why), "{text:?}: {refused}");
        }
    }
}
