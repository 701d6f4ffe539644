use chassis::{Context, Database, clock::Clock};

use super::*;
use crate::domain::Chain;

#[tokio::test]
async fn records_are_kept_listed_and_walked_and_none_twice() {
    let url = testkit::database::fresh("audit").await;
    let (database, _) = Database::connect("audit", &url, "development", Clock::default()).await.unwrap();
    let mut tx = database.begin().await.unwrap();
    let message = |id: u128, aggregate: &str, body: &'static [u8]| Recorded {
        source_id: Uuid::from_u128(id),
        subject: format!("tranche.evt.{aggregate}.x.-"),
        aggregate: aggregate.into(),
        aggregate_id: Uuid::from_u128(100 + id),
        epoch: 1,
        version: 1,
        at: chrono::DateTime::from_timestamp(i64::try_from(id).unwrap(), 0).unwrap(),
        context: Context::default(),
        body: body.into(),
    };
    assert_eq!(lock_end(&mut tx).await.unwrap(), (0, GENESIS.to_vec()));
    let messages = [message(1, "fund", b"{\"a\": 1}"), message(2, "payment", b"no json \xff"), message(3, "fund", b"")];
    let mut previous = GENESIS.to_vec();
    let mut records = Vec::new();
    for (n, message) in (1..).zip(&messages) {
        let hash = Content::of(n, message).hash(&previous);
        previous = hash.to_vec();
        records.push((n, message, hash));
    }
    insert(&mut tx, &records).await.unwrap();
    assert_eq!(lock_end(&mut tx).await.unwrap(), (3, previous));
    assert_eq!(known(&mut tx, &[messages[1].clone(), message(9, "fund", b"")]).await.unwrap(), [Uuid::from_u128(2)].into());
    let mut chain = Chain::default();
    assert_eq!(walk(&mut tx, 0, |content, hash| chain.check(content, hash)).await.unwrap(), Some(3));
    assert_eq!((chain.records, chain.first_bad), (3, None));
    assert_eq!(walk(&mut tx, 3, |_, _| {}).await.unwrap(), None);
    let of = |filter: ListAuditRecords| filter;
    let by_kind = list(&mut tx, &of(ListAuditRecords { aggregate: Some("fund".into()), ..Default::default() }), 0, 10).await.unwrap();
    assert_eq!(by_kind.iter().map(|record| record.n).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(by_kind[0].body["a"], 1);
    let by_subject =
        list(&mut tx, &of(ListAuditRecords { subject: Some("tranche.evt.payment".into()), ..Default::default() }), 0, 10).await.unwrap();
    assert_eq!(by_subject.len(), 1);
    let since = chrono::DateTime::from_timestamp(2, 0);
    assert_eq!(list(&mut tx, &of(ListAuditRecords { from: since, ..Default::default() }), 0, 10).await.unwrap().len(), 2);
    assert_eq!(list(&mut tx, &of(ListAuditRecords { to: since, ..Default::default() }), 0, 10).await.unwrap().len(), 1);
    assert_eq!(
        list(&mut tx, &of(ListAuditRecords { aggregate_id: Some(Uuid::from_u128(102)), ..Default::default() }), 0, 10).await.unwrap().len(),
        1
    );
    tx.commit().await.unwrap();
    let mut tx = database.begin().await.unwrap();
    assert!(insert(&mut tx, &records[..1]).await.is_err(), "the same source is never recorded twice");
}
