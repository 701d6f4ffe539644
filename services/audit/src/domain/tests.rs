use super::*;

fn content(n: i64, body: &'static [u8]) -> Content<'static> {
    Content {
        n,
        source_id: Uuid::from_u128(n as u128),
        subject: "tranche.evt.fund.registered.-",
        aggregate: "fund",
        aggregate_id: Uuid::from_u128(9),
        epoch: 1,
        version: n,
        actor: "ada",
        correlation_id: "c",
        at: DateTime::UNIX_EPOCH,
        body,
    }
}

fn chain(contents: &[Content<'_>]) -> Vec<[u8; 32]> {
    let mut previous = GENESIS.to_vec();
    contents
        .iter()
        .map(|content| {
            let hash = content.hash(&previous);
            previous = hash.to_vec();
            hash
        })
        .collect()
}

fn first_bad(contents: &[Content<'_>], hashes: &[[u8; 32]]) -> Option<i64> {
    let mut checked = Chain::default();
    for (content, hash) in contents.iter().zip(hashes) {
        checked.check(content, hash);
    }
    checked.first_bad
}

#[test]
fn every_field_is_covered_and_the_first_changed_record_is_named() {
    let good = [content(1, b"a"), content(2, b"b"), content(3, b"c")];
    let hashes = chain(&good);
    assert_eq!(first_bad(&good, &hashes), None);
    let edits: Vec<fn(&mut Content<'static>)> = vec![
        |record| record.source_id = Uuid::nil(),
        |record| record.subject = "other",
        |record| record.aggregate = "other",
        |record| record.aggregate_id = Uuid::nil(),
        |record| record.epoch = 2,
        |record| record.version = 7,
        |record| record.actor = "eve",
        |record| record.correlation_id = "d",
        |record| record.at = DateTime::from_timestamp(1, 0).unwrap(),
        |record| record.body = b"x",
    ];
    for (position, edit) in edits.iter().enumerate() {
        let mut changed = good.clone();
        edit(&mut changed[1]);
        assert_eq!(first_bad(&changed, &hashes), Some(2), "edit {position}");
    }
}

#[test]
fn a_removed_record_and_a_forged_hash_are_named() {
    let good = [content(1, b"a"), content(2, b"b"), content(3, b"c")];
    let hashes = chain(&good);
    assert_eq!(first_bad(&[good[0].clone(), good[2].clone()], &[hashes[0], hashes[2]]), Some(3));
    // whoever changes a record and its hash breaks the next one
    let mut forged = good.clone();
    forged[1].body = b"x";
    let hash = forged[1].hash(&hashes[0]);
    assert_eq!(first_bad(&forged, &[hashes[0], hash, hashes[2]]), Some(3));
}

#[test]
fn fields_cannot_run_into_each_other() {
    let (mut one, mut other) = (content(1, b""), content(1, b""));
    (one.actor, one.correlation_id) = ("ab", "c");
    (other.actor, other.correlation_id) = ("a", "bc");
    assert_ne!(one.hash(&GENESIS), other.hash(&GENESIS));
}
