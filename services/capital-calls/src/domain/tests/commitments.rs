//! Commitments that change, and later closings.

use ::domain::messages::capital_calls::{ChangeKind, CommitmentEntry, EntryKind};
use ::domain::money::Ratio;

use super::*;
use crate::domain::{Earlier, Recorded, change, effective, enter, equalise, share_anew, transfer};

fn entry(commitment: &Commitment, kind: EntryKind, amount: i128, impact: i128, effective_on: &str) -> CommitmentEntry {
    CommitmentEntry {
        id: Uuid::from_u128(1),
        commitment_id: commitment.id,
        version: commitment.version + 1,
        at: DateTime::<Utc>::UNIX_EPOCH,
        kind,
        amount: usd(amount),
        impact_on_unfunded: usd(impact),
        effective_on: date(effective_on),
        counterpart_id: None,
        closing_id: None,
        reason: "agreed".into(),
        recorded_by: "ada".into(),
    }
}

/// Entries in the order in which they were recorded, after an issue that has seen none of them.
fn recorded(entries: &[CommitmentEntry]) -> Vec<Recorded> {
    (1..).zip(entries).map(|(position, entry)| Recorded { position, entry: entry.clone() }).collect()
}

fn entered(commitment: &mut Commitment, kind: EntryKind, amount: i128, impact: i128, effective_on: &str) -> CommitmentEntry {
    let entry = entry(commitment, kind, amount, impact, effective_on);
    enter(commitment, &entry);
    entry
}

#[test]
fn a_call_sees_what_is_promised_by_its_due_date_and_the_least_that_is_unfunded_from_then_on() {
    let mut commitment = commitment(1, 1_000, 400);
    let entries = [
        entered(&mut commitment, EntryKind::Increase, 500, 500, "2026-04-01"),
        entered(&mut commitment, EntryKind::Reduction, -300, -300, "2026-06-01"),
    ];
    assert_eq!((commitment.amount, commitment.unfunded), (usd(1_200), usd(600)));
    for (due_on, promised, unfunded) in
        [("2026-03-31", 1_000, 400), ("2026-04-01", 1_500, 600), ("2026-05-31", 1_500, 600), ("2026-06-01", 1_200, 600)]
    {
        let seen = effective(&commitment, &recorded(&entries), std::iter::empty(), date(due_on), None).unwrap();
        assert_eq!((seen.amount, seen.unfunded), (usd(promised), usd(unfunded)), "due on {due_on}");
    }
    let nothing_yet = entered(&mut blank(), EntryKind::Initial, 100, 100, "2026-04-01");
    let mut new = blank();
    enter(&mut new, &nothing_yet);
    assert_eq!(effective(&new, &recorded(&[nothing_yet]), std::iter::empty(), date("2026-03-31"), None), None);
}

#[test]
fn a_line_draws_on_what_is_promised_later_only_where_it_is_due_later() {
    // 500 are called, 1,000 are promised more, and all of that is called when it is there
    let mut commitment = commitment(1, 1_000, 500);
    let more = [entered(&mut commitment, EntryKind::Increase, 1_000, 1_000, "2026-04-06")];
    draw(&mut commitment, usd(1_000), usd(-1_000));
    let line = Draw { call_id: Uuid::from_u128(2), due_on: date("2026-04-07"), impact_on_unfunded: usd(-1_000) };
    for (due_on, unfunded) in [("2026-04-01", 500), ("2026-04-06", 500), ("2026-04-07", 500)] {
        let seen = effective(&commitment, &recorded(&more), std::iter::once(line), date(due_on), None).unwrap();
        assert_eq!(seen.unfunded, usd(unfunded), "due on {due_on}");
    }
    // one that is due before leaves nothing until there is more
    let early = Draw { due_on: date("2026-04-01"), ..line };
    let seen = |due_on: &str| effective(&commitment, &recorded(&more), std::iter::once(early), date(due_on), None).unwrap().unfunded;
    assert_eq!((seen("2026-04-05"), seen("2026-04-06")), (usd(-500), usd(500)));
}

#[test]
fn an_issued_call_goes_by_what_was_promised_then_and_what_is_unfunded_now() {
    let mut commitment = commitment(1, 1_000, 900);
    let more = entered(&mut commitment, EntryKind::Increase, 1_000, 1_000, "2026-03-01");
    draw(&mut commitment, usd(1_000), usd(-1_000));
    let seen = effective(&commitment, &recorded(std::slice::from_ref(&more)), std::iter::empty(), date("2026-03-31"), Some(0)).unwrap();
    assert_eq!((seen.amount, seen.unfunded), (usd(1_000), usd(900)));
}

#[test]
fn what_a_return_makes_unfunded_above_the_promise_is_neither_taken_away_nor_in_the_way() {
    let commitment = Commitment { unfunded: usd(1_090), ..commitment(1, 1_000, 1_000) };
    let asked = change(&commitment, &[], ChangeKind::Reduction, Some(usd(1_050)));
    assert_eq!(asked.unwrap_err().reason, Reason::CommitmentDrawn);
    assert_eq!(change(&commitment, &[], ChangeKind::Release, None), Ok((EntryKind::Release, usd(-1_000))));
    assert_eq!(transfer(&commitment, &[], usd(10), None), Ok((usd(10), usd(10))));
}

#[test]
fn who_was_released_is_called_no_more_for_what_is_given_back() {
    let mut commitment = commitment(1, 1_000, 400);
    let release = entered(&mut commitment, EntryKind::Release, -400, -400, "2026-04-01");
    draw(&mut commitment, usd(-100), usd(100));
    assert_eq!((commitment.unfunded, commitment.status), (usd(100), CommitmentStatus::Released));
    let seen = |due_on: &str, seen| {
        effective(&commitment, &recorded(std::slice::from_ref(&release)), std::iter::empty(), date(due_on), seen).unwrap()
    };
    assert_eq!((seen("2026-04-01", None).amount, seen("2026-04-01", None).unfunded), (usd(600), usd(0)));
    assert_eq!((seen("2026-03-31", None).amount, seen("2026-03-31", None).unfunded), (usd(1_000), usd(100)));
    // a call that was issued before keeps it, and one that was issued after it does not, whenever it is due
    assert_eq!(seen("2026-04-01", Some(0)).unfunded, usd(100));
    assert_eq!(seen("2026-03-31", Some(1)).unfunded, usd(0));
}

fn blank() -> Commitment {
    Commitment { version: 0, ..commitment(9, 0, 0) }
}

#[test]
fn what_is_drawn_cannot_be_taken_away() {
    let commitment = commitment(1, 1_000, 400);
    let asked = |kind, amount: Option<i128>| change(&commitment, &[], kind, amount.map(usd));
    assert_eq!(asked(ChangeKind::Increase, Some(50)), Ok((EntryKind::Increase, usd(50))));
    assert_eq!(asked(ChangeKind::Reduction, Some(400)), Ok((EntryKind::Reduction, usd(-400))));
    assert_eq!(asked(ChangeKind::Release, None), Ok((EntryKind::Release, usd(-400))));
    for (kind, amount, reason) in [
        (ChangeKind::Reduction, Some(401), Reason::CommitmentDrawn),
        (ChangeKind::Reduction, None, Reason::InvalidAmount),
        (ChangeKind::Increase, Some(0), Reason::InvalidAmount),
        (ChangeKind::Release, Some(1), Reason::InvalidAmount),
    ] {
        assert_eq!(asked(kind, amount).unwrap_err().reason, reason, "{kind:?} {amount:?}");
    }
    // what is given away later is not there to give now
    let later = entry(&commitment, EntryKind::Reduction, -300, -300, "2026-09-01");
    let mut reduced = commitment.clone();
    enter(&mut reduced, &later);
    assert_eq!(change(&reduced, &[&later], ChangeKind::Reduction, Some(usd(101))).unwrap_err().reason, Reason::CommitmentDrawn);
    let mut released = commitment;
    entered(&mut released, EntryKind::Release, -400, -400, "2026-06-01");
    assert_eq!((released.status, released.amount, released.unfunded), (CommitmentStatus::Released, usd(600), usd(0)));
    entered(&mut released, EntryKind::Increase, 100, 100, "2026-07-01");
    assert_eq!(released.status, CommitmentStatus::Active);
}

#[test]
fn a_transfer_moves_what_is_unfunded_and_as_much_of_what_is_drawn_as_is_said() {
    let mut from = commitment(1, 1_000, 400);
    for (amount, drawn, expected) in [
        (400, None, Ok((usd(400), usd(400)))),
        (500, Some(300), Ok((usd(500), usd(200)))),
        (1_000, Some(600), Ok((usd(1_000), usd(400)))),
        (401, None, Err(Reason::CommitmentDrawn)),
        (1_000, Some(601), Err(Reason::CommitmentDrawn)),
        (1_001, Some(600), Err(Reason::TransferMismatch)),
        (10, Some(11), Err(Reason::TransferMismatch)),
    ] {
        let moved = transfer(&from, &[], usd(amount), drawn.map(usd)).map_err(|refused| refused.reason);
        assert_eq!(moved, expected, "{amount} of which {drawn:?} is drawn");
    }
    let mut to = blank();
    entered(&mut from, EntryKind::TransferOut, -1_000, -400, "2026-06-01");
    entered(&mut to, EntryKind::TransferIn, 1_000, 400, "2026-06-01");
    assert_eq!((from.status, from.unfunded, from.drawn_transferred), (CommitmentStatus::Transferred, usd(0), usd(-600)));
    assert_eq!((to.status, to.unfunded, to.drawn_transferred), (CommitmentStatus::Active, usd(400), usd(600)));
}

pub fn issued(id: u128, purposes: Vec<Purpose>, rounding: Rounding, due_on: &str) -> CapitalCall {
    CapitalCall {
        id: Uuid::from_u128(id),
        version: 2,
        created_at: DateTime::<Utc>::UNIX_EPOCH,
        fund_id: Uuid::from_u128(900),
        fund_type: "buyout".into(),
        currency: currency(),
        amount: purposes.iter().map(|purpose| purpose.amount).sum(),
        purposes,
        due_on: date(due_on),
        priority: Priority::Normal,
        requested_by: "mia".into(),
        authors: vec!["mia".into()],
        workflow_id: Uuid::from_u128(id),
        external_reference: None,
        adjustments: vec![],
        rounding,
        content_hash: "h".into(),
        submitted_at: None,
        amendment: 0,
        amendments_asked: 0,
        amending: None,
        notice_days: None,
        covers_line_id: None,
        decision: CallDecision::Issued,
        decided_because: None,
        rules: Default::default(),
        issued_on: Some(date("2026-01-02")),
        line_count: 0,
        paid: usd(0),
        status: CallStatus::Issued,
    }
}

pub fn lines_of(call: &CapitalCall, previews: &[LinePreview]) -> Vec<CallLine> {
    let of = |preview: &LinePreview| {
        let mut line = CallLine {
            id: Uuid::from_u128(call.id.as_u128() << 32 | preview.investor_id.as_u128()),
            call_id: call.id,
            investor_id: preview.investor_id,
            amount: preview.amount,
            impact_on_unfunded: preview.impact_on_unfunded,
            purposes: preview.purposes.clone(),
            due_on: call.due_on,
            ..line(1)
        };
        derive_line(&mut line, date("2026-01-02"));
        line
    };
    previews.iter().map(of).collect()
}

fn joins(investor: u128, amount: i128) -> (Commitment, CommitmentEntry) {
    let mut commitment = Commitment { version: 0, ..commitment(investor, 0, 0) };
    let mut entry = entry(&commitment, EntryKind::Initial, amount, amount, "2026-07-01");
    entry.closing_id = Some(Uuid::from_u128(77));
    enter(&mut commitment, &entry);
    (commitment, entry)
}

#[test]
fn the_worked_example_of_an_equalisation() {
    // 50 million were called of 405 million; investors with 20, 30 and 40 million join
    let millions = |count: i128| count * 100_000_000;
    let first = [commitment(1, millions(205), millions(205)), commitment(2, millions(200), millions(200))];
    let purposes = vec![purpose(PurposeKind::Reserve, millions(50), true)];
    let call = issued(1, purposes, Rounding::PerCall, "2026-04-02");
    let before = lines_of(&call, &split(&call.purposes, &first).unwrap());
    let joining = [joins(3, millions(20)), joins(4, millions(30)), joins(5, millions(40))];
    let mut commitments: Vec<Commitment> = joining.iter().map(|(commitment, _)| commitment.clone()).collect();
    for (mut commitment, line) in first.into_iter().zip(&before) {
        draw(&mut commitment, line.amount, line.impact_on_unfunded);
        commitments.push(commitment);
    }
    let entries: Vec<CommitmentEntry> = joining.into_iter().map(|(_, entry)| entry).collect();
    let earlier = Earlier { call: &call, lines: &before, seen: Some(0) };
    let shared = share_anew(&[earlier], &commitments, &recorded(&entries), currency()).unwrap();
    let done = equalise(earlier, &shared[0], Ratio("8".parse().unwrap()), date("2026-07-01"), currency());
    let units = |id: u128| (done.moved[&Uuid::from_u128(id)].minor(currency()) + 50) / 100;
    assert_eq!([units(3), units(4), units(5)], [2_020_202, 3_030_303, 4_040_404]);
    assert_eq!(done.equalised, usd(909_090_909));
    assert_eq!(done.moved.values().copied().sum::<Amount>(), usd(0));
    // 90 days of 8 percent, paid to the earlier investors as 205 to 200
    assert_eq!(done.interest[&Uuid::from_u128(3)], usd(3_985_056));
    let paid_to = |id: u128| -done.interest[&Uuid::from_u128(id)].minor(currency());
    assert!((paid_to(1) * 200 - paid_to(2) * 205).abs() <= 205, "{:?}", done.interest);
    assert_eq!(done.interest.values().copied().sum::<Amount>(), usd(0));
}

#[test]
fn changes_that_are_no_closing_count_for_calls_that_are_issued_later_also_when_calls_are_shared_anew() {
    let mut first = [commitment(1, 1_000, 1_000), commitment(2, 1_000, 1_000)];
    let call = issued(1, vec![purpose(PurposeKind::Reserve, 300, true)], Rounding::PerCall, "2026-03-31");
    let before = lines_of(&call, &split(&call.purposes, &first).unwrap());
    for (commitment, line) in first.iter_mut().zip(&before) {
        draw(commitment, line.amount, line.impact_on_unfunded);
    }
    let (joined, joining) = joins(3, 1_000);
    // the first before the call is due, the second after it
    let sold = entered(&mut first[0], EntryKind::TransferOut, -500, -425, "2026-03-30");
    let mut buyer = Commitment { version: 0, ..commitment(4, 0, 0) };
    let bought = entered(&mut buyer, EntryKind::TransferIn, 500, 425, "2026-03-30");
    let more = entered(&mut first[1], EntryKind::Increase, 1_000, 1_000, "2026-05-01");
    let [one, two] = first;
    let commitments = [one, two, joined, buyer];
    let earlier = Earlier { call: &call, lines: &before, seen: Some(0) };
    let shared = share_anew(&[earlier], &commitments, &recorded(&[sold, bought, more, joining]), currency()).unwrap();
    let amounts: Vec<(u128, Amount)> = shared[0].iter().map(|line| (line.investor_id.as_u128(), line.amount)).collect();
    assert_eq!(amounts, [(1, usd(100)), (2, usd(100)), (3, usd(100))]);
}

#[test]
fn who_reduced_after_a_cumulative_call_is_called_as_before() {
    let mut first = [commitment(1, 10_000, 10_000), commitment(2, 10_000, 10_000), commitment(3, 10_000, 10_000)];
    let call = issued(1, vec![purpose(PurposeKind::Reserve, 300, true)], Rounding::Cumulative, "2026-03-31");
    let before = lines_of(&call, &split(&call.purposes, &first).unwrap());
    for (commitment, line) in first.iter_mut().zip(&before) {
        draw(commitment, line.amount, line.impact_on_unfunded);
    }
    let less = entered(&mut first[1], EntryKind::Reduction, -100, -100, "2026-03-30");
    let (joined, joining) = joins(4, 10_000);
    let commitments: Vec<Commitment> = first.into_iter().chain([joined]).collect();
    let earlier = Earlier { call: &call, lines: &before, seen: Some(0) };
    let shared = share_anew(&[earlier], &commitments, &recorded(&[less, joining]), currency()).unwrap();
    assert_eq!(shared[0].iter().map(|line| line.amount).collect::<Vec<_>>(), vec![usd(75); 4]);
}

proptest! {
    /// After a closing everyone stands where it would if all had joined at the first one, but for interest; and the interest that is owed
    /// is what is owed to others.
    #[test]
    fn after_a_closing_everyone_stands_as_if_all_had_joined_at_first(
        weights in prop::collection::vec(1_000i128..90_000, 2..7),
        new in prop::collection::vec(1_000i128..90_000, 1..4),
        more in prop::option::of(500i128..50_000),
        calls in prop::collection::vec((100i128..9_000, 0i128..500, any::<bool>(), 1u32..180), 1..5),
        cash in prop::collection::vec(0i128..9_000, 8),
        percent in 0u32..12,
    ) {
        let first: Vec<Commitment> = (1..).zip(&weights).map(|(id, weight)| commitment(id, *weight, *weight)).collect();
        let mut entries = Vec::new();
        // the world in which all have joined at first
        let mut all = first.clone();
        if let Some(more) = more {
            all[0].amount += usd(more);
            all[0].unfunded += usd(more);
        }
        all.extend((101..).zip(&new).map(|(id, weight)| commitment(id, *weight, *weight)));
        // and the one in which they come later
        let mut commitments = first;
        let mut issued_calls = Vec::new();
        let mut would_be = Vec::new();
        let today = date("2026-06-01");
        for (number, (inside, outside, cumulative, day)) in (1u128..).zip(calls) {
            let purposes = vec![purpose(PurposeKind::Reserve, inside, true), purpose(PurposeKind::Expenses, outside + 1, false)];
            let rounding = if cumulative { Rounding::Cumulative } else { Rounding::PerCall };
            let due_on = date("2026-01-01") + chrono::Days::new(u64::from(day));
            let call = issued(number, purposes, rounding, &due_on.to_string());
            let terms = |call: &CapitalCall| call.content();
            let split_in = |commitments: &mut Vec<Commitment>| {
                let previews = split_call(Terms::of(&terms(&call)), commitments, currency())?;
                for preview in &previews {
                    let commitment = commitments.iter_mut().find(|commitment| commitment.investor_id == preview.investor_id).unwrap();
                    draw(commitment, preview.amount, preview.impact_on_unfunded);
                }
                Ok::<_, Rejection>(previews)
            };
            let (before, after) = (commitments.clone(), all.clone());
            match (split_in(&mut commitments), split_in(&mut all)) {
                (Ok(previews), Ok(expected)) => {
                    let lines = lines_of(&call, &previews);
                    issued_calls.push((call, lines));
                    would_be.push(expected);
                }
                // more than one of the worlds can pay
                _ => (commitments, all) = (before, after),
            }
        }
        let mut place = 0;
        for (_, lines) in &mut issued_calls {
            for line in lines {
                place += 1;
                let cash = cash[place % cash.len()];
                if cash > 0 {
                    let paid = pay(line, usd(cash), None, usd(0)).unwrap();
                    settle(line, paid, today);
                }
            }
        }
        if let Some(more) = more {
            let mut entry = entry(&commitments[0], EntryKind::Increase, more, more, "2026-07-01");
            entry.closing_id = Some(Uuid::from_u128(77));
            enter(&mut commitments[0], &entry);
            entries.push(entry);
        }
        for (id, weight) in (101..).zip(&new) {
            let (commitment, entry) = joins(id, *weight);
            commitments.push(commitment);
            entries.push(entry);
        }
        let earlier: Vec<Earlier<'_>> = issued_calls.iter().map(|(call, lines)| Earlier { call, lines, seen: Some(0) }).collect();
        let shared = share_anew(&earlier, &commitments, &recorded(&entries), currency()).unwrap();
        for ((earlier, previews), expected) in earlier.iter().zip(&shared).zip(&would_be) {
            let amounts = |lines: &[LinePreview]| lines.iter().map(|line| (line.investor_id, line.amount, line.impact_on_unfunded)).collect::<Vec<_>>();
            prop_assert_eq!(amounts(previews), amounts(expected));
            let done = equalise(*earlier, previews, Ratio(percent.into()), date("2026-07-01"), currency());
            prop_assert_eq!(done.moved.values().copied().sum::<Amount>(), usd(0));
            prop_assert_eq!(done.interest.values().copied().sum::<Amount>(), usd(0));
            for line in earlier.lines {
                let mut moved = line.clone();
                let preview = previews.iter().find(|preview| preview.investor_id == line.investor_id);
                let by = amend_line(&mut moved, preview, line.due_on, 0, today).unwrap_or_default();
                prop_assert_eq!(moved.paid + moved.unapplied, line.paid + line.unapplied, "cash is neither made nor lost");
                let commitment = commitments.iter_mut().find(|commitment| commitment.investor_id == line.investor_id).unwrap();
                draw(commitment, by.amount, by.impact_on_unfunded);
            }
            for preview in previews.iter().filter(|preview| !earlier.lines.iter().any(|line| line.investor_id == preview.investor_id)) {
                let commitment = commitments.iter_mut().find(|commitment| commitment.investor_id == preview.investor_id).unwrap();
                draw(commitment, preview.amount, preview.impact_on_unfunded);
            }
        }
        for (commitment, expected) in commitments.iter().zip(&all) {
            prop_assert_eq!(
                (commitment.investor_id, commitment.amount, commitment.called, commitment.unfunded),
                (expected.investor_id, expected.amount, expected.called, expected.unfunded)
            );
        }
    }
}
