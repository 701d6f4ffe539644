//! The audit record: complete, and evident when it is tampered with.

use testkit::Stack;
use uuid::Uuid;

use crate::office::{Office, items};

#[tokio::test]
async fn a_changed_record_is_named_by_the_verification() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    office.open_call(&stack, 2, "100.00").await;
    office.auditor.until("/audit/records?aggregate=capital_call", |page| !items(page).is_empty()).await;
    let before = office.auditor.get("/audit/verify").await.expect(200);
    assert_eq!((before["valid"].as_bool(), before["first_bad"].is_null()), (Some(true), true));
    let database = stack.database().await;
    let changed: i64 = sqlx::query_scalar(
        "update audit.records set body = convert_to(replace(convert_from(body, 'UTF8'), '100.00', '900.00'), 'UTF8')
         where n = (select min(n) from audit.records where aggregate = 'capital_call') returning n",
    )
    .fetch_one(&database)
    .await
    .unwrap();
    let after = office.auditor.get("/audit/verify").await.expect(200);
    assert_eq!((after["valid"].as_bool(), after["first_bad"].as_i64()), (Some(false), Some(changed)));
}

#[tokio::test]
async fn a_removed_record_is_named_by_the_verification() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    office.fund(1).await;
    // one before and one after the record that goes
    office.auditor.until("/audit/records", |page| items(page).len() >= 3).await;
    let database = stack.database().await;
    sqlx::query("delete from audit.records where n = 2").execute(&database).await.unwrap();
    let after = office.auditor.get("/audit/verify").await.expect(200);
    assert_eq!((after["valid"].as_bool(), after["first_bad"].as_i64()), (Some(false), Some(3)));
}

#[tokio::test]
async fn the_roles_of_the_services_can_neither_edit_nor_delete_events_or_records() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    office.fund(1).await;
    let allowed = |role: &'static str, table: &'static str| {
        let database = stack.settings.database.clone();
        async move {
            let pool = sqlx::PgPool::connect(&database).await.unwrap();
            let query =
                "select p from unnest(array['select', 'insert', 'update', 'delete', 'truncate']) as p where has_table_privilege($1, $2, p)";
            let privileges: Vec<String> = sqlx::query_scalar(query).bind(role).bind(table).fetch_all(&pool).await.unwrap();
            privileges
        }
    };
    assert_eq!(allowed("audit", "audit.records").await, ["select", "insert"]);
    for (role, table) in [
        ("capital_calls", "capital_calls.event_log"),
        ("workflow", "workflow.event_log"),
        ("allocation_status", "allocation_status.event_log"),
    ] {
        assert_eq!(allowed(role, table).await, ["select", "insert"], "{role}");
    }
    assert!(allowed("audit", "capital_calls.payments").await.is_empty(), "a service touches no other schema");
    assert!(allowed("capital_calls", "audit.records").await.is_empty(), "a service touches no other schema");
}

#[tokio::test]
async fn every_event_and_every_access_is_recorded_once() {
    let stack = Stack::start().await;
    let office = Office::of(&stack);
    office.open_call(&stack, 3, "100.00").await;
    let reader = stack.user("rita", &["analyst"]);
    reader.get("/funds").await.expect(200);
    assert_eq!(reader.get("/audit/records").await.refused(403), "forbidden");
    assert_eq!(reader.get(&format!("/payments/{}", Uuid::nil())).await.refused(404), "unknown_payment");
    let seen = office.auditor.until("/audit/records?actor=rita", |page| items(page).len() == 3).await;
    let kinds: Vec<(&str, i64)> = items(&seen)
        .iter()
        .map(|record| (record["subject"].as_str().unwrap(), record["body"]["state"]["status"].as_i64().unwrap()))
        .collect();
    assert_eq!(kinds, [("tranche.access.read", 200), ("tranche.access.refused", 403), ("tranche.access.refused", 404)]);
    let database = stack.database().await;
    let missing = "select count(*) from (
            select event_id from allocation_status.event_log union all select event_id from capital_calls.event_log
            union all select event_id from workflow.event_log union all select event_id from fund_metrics.event_log
         ) as logged where not exists (select from audit.records where source_id = event_id)";
    let none_missing = testkit::wait::until(std::time::Duration::from_secs(20), || async {
        sqlx::query_scalar::<_, i64>(missing).fetch_one(&database).await.unwrap() == 0
    });
    assert!(none_missing.await, "an event of a service is missing in the audit record");
}
