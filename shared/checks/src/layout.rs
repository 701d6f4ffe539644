//! Seven equal services on one foundation, and who may name what.

use crate::{files, root, shipped};

/// Longest file; a longer one has more than one subject.
const LINES_MAX: usize = 700;

#[test]
fn every_service_has_the_same_files() {
    for service in testkit::SERVICES {
        let source = root().join("services").join(service).join("src");
        let mut expected = vec!["main.rs", "domain.rs", "handlers.rs"];
        // the gateway owns nothing
        if service != "gateway" {
            expected.push("store.rs");
            assert!(!files(&format!("migrations/{service}"), ".sql").is_empty());
        }
        for file in expected {
            assert!(source.join(file).exists(), "{service} has no {file}");
        }
        let main = shipped(&source.join("main.rs"));
        assert!(main.contains(&format!("name: \"{service}\"")), "{service}: folder, crate and card have one name");
    }
}

#[test]
fn no_service_depends_on_another_service() {
    for service in testkit::SERVICES {
        let manifest = std::fs::read_to_string(root().join("services").join(service).join("Cargo.toml")).unwrap();
        for other in testkit::SERVICES {
            assert!(
                !manifest.contains(&format!("\n{other}.workspace")) && !manifest.contains(&format!("\n{other} =")),
                "{service} depends on {other}"
            );
        }
    }
}

#[test]
fn only_the_shell_names_nats_or_opens_a_transaction() {
    for file in files("services", ".rs") {
        let text = shipped(&file);
        for word in ["async_nats", ".begin()", "PgPool", "tokio::spawn(async move { sqlx"] {
            assert!(!text.contains(word), "{} names {word}", file.display());
        }
    }
}

/// A service's `store.rs`, or a file of the folder `store`.
fn is_store(file: &std::path::Path) -> bool {
    file.ends_with("store.rs") || file.components().any(|part| part.as_os_str() == "store")
}

#[test]
fn only_store_files_hold_sql() {
    for file in files("services", ".rs") {
        let in_store = is_store(&file);
        let text = shipped(&file);
        if !in_store {
            for word in ["sqlx::query", "select ", "insert into", " update "] {
                let holds = text.lines().any(|line| line.contains("sqlx::query") || (line.contains('"') && line.contains(word)));
                assert!(!holds, "{} holds SQL: {word}", file.display());
            }
        }
    }
}

#[test]
fn no_sql_names_another_services_schema() {
    for service in testkit::SERVICES.iter().filter(|service| **service != "gateway") {
        let mut texts: Vec<(std::path::PathBuf, String)> =
            files(&format!("migrations/{service}"), ".sql").into_iter().map(|file| (file.clone(), shipped(&file))).collect();
        let sources = files(&format!("services/{service}/src"), ".rs").into_iter().filter(|file| is_store(file));
        texts.extend(sources.map(|file| (file.clone(), shipped(&file))));
        for (file, text) in texts {
            for other in testkit::SERVICES.iter().filter(|other| *other != service) {
                let schema = format!(" {}.", testkit::database::schema_of(other));
                // `audit records` and the like are words; a table of a schema has a dot right after it
                assert!(!text.contains(&schema), "{} names the schema{schema}", file.display());
            }
        }
    }
}

#[test]
fn the_domain_is_pure() {
    let manifest = std::fs::read_to_string(root().join("shared/domain/Cargo.toml")).unwrap();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split('[').next().unwrap();
    let allowed = [
        "cel",
        "chrono",
        "chrono-tz",
        "fasti",
        "hex",
        "iso_currency",
        "jsonschema",
        "rust_decimal",
        "schemars",
        "serde",
        "serde-saphyr",
        "serde_json",
        "sha2",
        "thiserror",
        "uuid",
    ];
    for line in dependencies.lines().filter(|line| !line.trim().is_empty()) {
        let name = line.split('.').next().unwrap();
        assert!(allowed.contains(&name), "the domain depends on {name}");
    }
    let mut pure = files("shared/domain/src", ".rs");
    pure.extend(files("services", "domain.rs"));
    for file in pure {
        let text = shipped(&file);
        for word in ["async ", "f32", "f64", "Utc::now", "SystemTime", "std::fs", "std::net", "println!", "unwrap()", "expect(\"", "panic!"]
        {
            // the gateway's domain reads its key once, at start
            let reads_key = file.to_string_lossy().contains("gateway") && word == "std::fs";
            assert!(reads_key || !text.contains(word), "{} has {word}", file.display());
        }
    }
}

#[test]
fn services_declare_no_macros_and_no_file_is_too_long() {
    let mut sources = files("services", ".rs");
    sources.extend(files("shared", ".rs"));
    for file in sources {
        let text = std::fs::read_to_string(&file).unwrap();
        let declares = format!("{}_rules!", "macro");
        assert!(!text.contains(&declares), "{} declares a macro", file.display());
        let is_contract = file.to_string_lossy().contains("/messages/");
        assert!(is_contract || text.lines().count() <= LINES_MAX, "{} has {} lines", file.display(), text.lines().count());
    }
}

#[test]
fn the_readme_names_every_service_and_every_limit_has_a_reason() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for service in testkit::SERVICES {
        assert!(readme.contains(service), "README.md does not name {service}");
    }
    let limits = std::fs::read_to_string(root().join("shared/chassis/src/limits.rs")).unwrap();
    let mut before = "";
    for line in limits.lines() {
        if line.starts_with("pub const") {
            assert!(before.starts_with("///"), "{line} has no reason");
        }
        before = line;
    }
}
