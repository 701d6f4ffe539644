use ::domain::messages::capital_calls::{CallLine, Disposition};
use ::domain::money::Ratio;
use chassis::{Database, Seen};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::domain::Changes;
use crate::domain::analytics as pure;
use crate::store::tests::{apply, line, newest, usd, with_funds};
use crate::store::{TOTALS, add_changes, forget_lines};

/// Due date of every line.
const DUE_ON: &str = "2026-03-31";

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// One version of a line of 100.00, issued on 2026-03-10: what is called and paid of it, when it is due, the value date of what came last.
fn version(id: u128, version: i64, (called, paid): (i128, i128), due_on: &str, last_paid_on: Option<&str>) -> Seen<CallLine> {
    let mut seen = line(id, version, paid, due_on);
    seen.state.amount = usd(called);
    seen.state.outstanding = usd(called - paid);
    seen.state.issued_on = date("2026-03-10");
    seen.state.last_paid_on = last_paid_on.map(date);
    seen
}

fn asked(kind: &'static str, id: u128) -> Asked {
    Asked { kind, ids: vec![Uuid::from_u128(id)], today: date("2026-06-30") }
}

fn whole() -> Period {
    Period { from: date("2026-01-01"), to: date("2026-12-31"), as_of: date("2026-12-31") }
}

/// Every row of the tables that are kept beside the lines; rows of nothing are as good as none.
async fn tables(database: &Database) -> Vec<String> {
    let mut tx = database.begin().await.unwrap();
    sqlx::query_scalar(
        "select format('%s %s %s %s %s %s %s %s %s %s %s', holder, holder_id, due_on, trim_scale(called), trim_scale(paid_in), lines, lines_open,
                       lines_on_time, lines_late, trim_scale(funded_on_time), trim_scale(funded_late))
         from due_totals where called <> 0 or paid_in <> 0
         union all
         select format('%s %s %s %s %s', holder, holder_id, month, lines, trim_scale(called)) from issue_totals where lines <> 0
         union all
         select format('%s %s %s %s %s %s %s', holder, holder_id, start, month, days, lines, trim_scale(called)) from funding_days where lines <> 0
         order by 1",
    )
    .fetch_all(&mut *tx)
    .await
    .unwrap()
}

/// What `verify --recompute` finds.
async fn divergences(database: &Database) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for (_, select) in TOTALS {
        let mut tx = database.begin().await.unwrap();
        let rows: Vec<(String, String, String)> = sqlx::query_as(select).persistent(false).fetch_all(&mut *tx).await.unwrap();
        found.extend(rows);
    }
    found
}

/// All that is answered of a holder.
async fn answers(database: &Database, asked: &Asked) -> String {
    let mut tx = database.begin().await.unwrap();
    let collections = pure::collections(whole(), due_dates(&mut tx, asked, whole()).await.unwrap());
    let aged = pure::ageing(asked.today, ages(&mut tx, asked, asked.today).await.unwrap());
    let days = histograms(&mut tx, asked).await.unwrap().map(|histogram| pure::days(&histogram));
    let trends = pure::trends(whole(), months(&mut tx, asked, whole()).await.unwrap());
    format!("{collections:#?}\n{aged:#?}\n{days:#?}\n{trends:#?}")
}

/// Lines 1 and 7 are of fund 2 and investor 11, lines 2 and 6 of fund 1 and of two others.
fn history() -> Vec<Seen<CallLine>> {
    vec![
        // on time by instalments, reversed, late
        version(1, 1, (10_000, 0), DUE_ON, None),
        version(1, 2, (10_000, 4_000), DUE_ON, Some("2026-03-20")),
        version(1, 3, (10_000, 10_000), DUE_ON, Some("2026-03-31")),
        version(1, 4, (10_000, 4_000), DUE_ON, Some("2026-03-20")),
        version(1, 5, (10_000, 10_000), DUE_ON, Some("2026-04-12")),
        // amended to less than what is paid, then due on another day
        version(7, 1, (10_000, 0), DUE_ON, None),
        version(7, 2, (10_000, 5_000), DUE_ON, Some("2026-03-25")),
        version(7, 3, (5_000, 5_000), DUE_ON, Some("2026-03-25")),
        version(7, 4, (5_000, 5_000), "2026-05-15", Some("2026-03-25")),
        // rescinded, and open
        version(2, 1, (10_000, 10_000), DUE_ON, Some("2026-03-25")),
        version(2, 2, (0, 0), DUE_ON, None),
        version(6, 1, (10_000, 100), "2026-06-15", Some("2026-06-01")),
    ]
}

#[test]
fn any_order_with_duplicates_gives_the_tables_that_the_newest_versions_alone_give() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let history = history();
    let expected = runtime.block_on(async {
        let database = with_funds().await;
        apply(&database, &newest(&history)).await;
        assert_eq!(divergences(&database).await, []);
        tables(&database).await
    });
    let order = prop::collection::vec(0..history.len(), 0..30).prop_flat_map({
        let all: Vec<usize> = (0..history.len()).collect();
        move |extra| Just([all.clone(), extra].concat()).prop_shuffle()
    });
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    let result = runner.run(&(order, 1usize..9), |(order, batch)| {
        let delivered: Vec<Seen<CallLine>> = order.iter().map(|&position| history[position].clone()).collect();
        let (got, wrong) = runtime.block_on(async {
            let database = with_funds().await;
            for chunk in delivered.chunks(batch) {
                apply(&database, &newest(chunk)).await;
            }
            (tables(&database).await, divergences(&database).await)
        });
        prop_assert_eq!(wrong, vec![]);
        prop_assert_eq!(&got, &expected);
        Ok(())
    });
    assert!(result.is_ok(), "{result:?}");
}

#[tokio::test]
async fn an_investor_with_all_lines_of_a_fund_is_answered_as_the_fund_is() {
    let database = with_funds().await;
    apply(&database, &newest(&history())).await;
    // both lines of fund 2 are of investor 11
    let (fund, investor) = (answers(&database, &asked("fund", 2)).await, answers(&database, &asked("investor", 11)).await);
    assert_eq!(fund, investor);
    assert!(fund.contains("lines_late: 1") && fund.contains("lines_on_time: 1"), "{fund}");
    let portfolio = answers(&database, &asked("portfolio", 0)).await;
    let both = Asked { ids: vec![Uuid::from_u128(1), Uuid::from_u128(2)], ..asked("fund", 1) };
    assert_eq!(answers(&database, &both).await, portfolio);
    let nobody = answers(&database, &asked("investor", 99)).await;
    assert!(nobody.starts_with("[]\n[]\n"), "{nobody}");
}

#[tokio::test]
async fn collections_ages_days_and_trends_follow_their_formulas() {
    let database = with_funds().await;
    apply(&database, &newest(&history())).await;
    let mut tx = database.begin().await.unwrap();
    let portfolio = asked("portfolio", 0);
    let collections = pure::collections(whole(), due_dates(&mut tx, &portfolio, whole()).await.unwrap()).remove(0);
    let rate = |ratio: Option<Ratio>| ratio.map(|ratio| ratio.0.to_string());
    let total = &collections.total;
    assert_eq!((total.called, total.paid_in, total.outstanding), (usd(25_000), usd(15_100), usd(9_900)));
    assert_eq!((rate(total.collection_rate), rate(total.collection_rate_by_count)), (Some("0.604".into()), Some("0.666666666667".into())));
    assert_eq!((total.lines, total.lines_paid, total.lines_on_time, total.lines_late), (3, 2, 1, 1));
    assert_eq!((total.funded_on_time, total.funded_late), (usd(5_000), usd(10_000)));
    let due_dates: Vec<String> = collections.due_dates.iter().map(|cohort| cohort.due_on.to_string()).collect();
    assert_eq!(due_dates, ["2026-03-31", "2026-05-15", "2026-06-15"]);
    assert_eq!(collections.months.len(), 3);
    // 15 days after 2026-06-15
    let aged = pure::ageing(portfolio.today, ages(&mut tx, &portfolio, portfolio.today).await.unwrap()).remove(0);
    assert_eq!(aged.buckets.iter().map(|bucket| bucket.lines).collect::<Vec<_>>(), [0, 1, 0, 0, 0]);
    assert_eq!((aged.overdue, aged.lines_overdue, aged.not_overdue, aged.lines_not_overdue), (usd(9_900), 1, usd(0), 0));
    let [due, issue] = histograms(&mut tx, &portfolio).await.unwrap();
    // 2026-04-12 is 12 days after the due date, 2026-03-25 is 51 days before the amended one; both were issued on 2026-03-10
    assert_eq!((due, issue), ([(-51, 1), (12, 1)].into(), [(15, 1), (33, 1)].into()));
    let trend = pure::trends(whole(), months(&mut tx, &portfolio, whole()).await.unwrap()).remove(0);
    let by_month: Vec<(i64, i64, i64)> =
        trend.months.iter().map(|month| (month.lines_issued, month.collected.lines, month.days_to_fund.lines)).collect();
    assert_eq!(by_month[..6], [(0, 0, 0), (0, 0, 0), (3, 1, 1), (0, 0, 1), (0, 1, 0), (0, 1, 0)]);
    assert_eq!((trend.months.len(), trend.months[3].funded, trend.months[2].issued), (12, usd(10_000), usd(25_000)));
}

#[tokio::test]
async fn each_investor_of_a_fund_is_listed_with_its_days_in_that_fund() {
    let database = with_funds().await;
    apply(&database, &newest(&history())).await;
    let mut tx = database.begin().await.unwrap();
    // investor 11 has both lines of fund 2, investor 12 has none there
    sqlx::raw_sql(
        "insert into commitments (id, epoch, version, fund_id, investor_id, currency, amount)
         select gen_random_uuid(), 1, 1, '00000000-0000-0000-0000-000000000002', investor_id::uuid, 'USD', 1
         from unnest(array['00000000-0000-0000-0000-00000000000b', '00000000-0000-0000-0000-00000000000c']) as of (investor_id)",
    )
    .execute(&mut *tx)
    .await
    .unwrap();
    let [investor, other] = [11, 12].map(Uuid::from_u128);
    let listed = histograms_of_investors(&mut tx, Uuid::from_u128(2), Uuid::nil(), 10).await.unwrap();
    let days = histograms(&mut tx, &asked("fund", 2)).await.unwrap();
    assert_eq!(listed, [(investor, days), (other, Histograms::default())]);
    let page = histograms_of_investors(&mut tx, Uuid::from_u128(2), investor, 1).await.unwrap();
    assert_eq!(page, listed[1..]);
}

#[test]
fn a_line_is_funded_on_the_last_value_date_once_its_investor_has_paid_all() {
    let funded_on = |(called, paid): (i128, i128), last_paid_on: Option<&str>, disposition: Disposition| {
        let mut seen = version(1, 1, (called, paid), DUE_ON, last_paid_on);
        seen.state.disposition = disposition;
        crate::domain::funded_on(&seen.state).map(|date| date.to_string())
    };
    let on = Some("2026-03-25");
    assert_eq!(funded_on((100, 100), on, Disposition::None).as_deref(), on);
    for (figures, last_paid_on, disposition) in [
        ((100, 99), on, Disposition::None),
        ((100, 100), None, Disposition::None),
        ((0, 0), on, Disposition::Rescinded),
        ((40, 40), on, Disposition::CoveredByOthers),
    ] {
        assert_eq!(funded_on(figures, last_paid_on, disposition), None, "{figures:?} {disposition:?}");
    }
}

#[tokio::test]
async fn who_is_asked_for_is_known_or_not() {
    let database = with_funds().await;
    apply(&database, &[version(1, 1, (10_000, 0), DUE_ON, None)]).await;
    let mut tx = database.begin().await.unwrap();
    let today = tx.now().date_naive();
    assert_eq!(fund_today(&mut tx, Uuid::from_u128(1)).await.unwrap(), Some(today));
    assert_eq!(fund_today(&mut tx, Uuid::from_u128(9)).await.unwrap(), None);
    for (investor, known) in [(11, true), (12, false)] {
        assert_eq!(knows_investor(&mut tx, Uuid::from_u128(investor)).await.unwrap(), known);
    }
}

#[tokio::test]
async fn a_partial_payment_writes_no_row_of_the_analytics() {
    let database = with_funds().await;
    apply(&database, &[version(1, 1, (10_000, 0), DUE_ON, None)]).await;
    let mut tx = database.begin().await.unwrap();
    let before: i64 = sqlx::query_scalar("select pg_current_xact_id()::text::bigint").fetch_one(&mut *tx).await.unwrap();
    drop(tx);
    let written = async || -> i64 {
        let mut tx = database.begin().await.unwrap();
        let statement = "select count(*) from (select xmin from issue_totals union all select xmin from funding_days) as row
                         where xmin::text::bigint > $1";
        sqlx::query_scalar(statement).bind(before).fetch_one(&mut *tx).await.unwrap()
    };
    apply(&database, &[version(1, 2, (10_000, 4_000), DUE_ON, Some("2026-03-20"))]).await;
    assert_eq!(written().await, 0);
    apply(&database, &[version(1, 3, (10_000, 10_000), DUE_ON, Some("2026-03-21"))]).await;
    // of fund and portfolio, from due date and issue
    assert_eq!(written().await, 4);
}

#[tokio::test]
async fn what_is_forgotten_leaves_nothing_behind() {
    let database = with_funds().await;
    apply(&database, &newest(&history())).await;
    let mut tx = database.begin().await.unwrap();
    let mut changes = Changes::default();
    let ids: Vec<Uuid> = [1, 2, 6, 7].map(Uuid::from_u128).to_vec();
    forget_lines(&mut tx, &ids, &mut changes).await.unwrap();
    add_changes(&mut tx, &changes).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(tables(&database).await, Vec::<String>::new());
    assert_eq!(divergences(&database).await, []);
}

#[tokio::test]
async fn lines_that_were_kept_before_their_dates_were_count_once_when_they_are_sent_again() {
    let database = with_funds().await;
    apply(&database, &newest(&history())).await;
    let expected = tables(&database).await;
    // as the migration leaves them
    let mut tx = database.begin().await.unwrap();
    sqlx::raw_sql(
        "update lines set version = 0, funded_on = null, issued_on = null, previous_funded_on = null, previous_issued_on = null;
         update due_totals set lines_on_time = 0, lines_late = 0, funded_on_time = 0, funded_late = 0;
         delete from issue_totals; delete from funding_days",
    )
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(divergences(&database).await, []);
    for _ in 0..2 {
        apply(&database, &newest(&history())).await;
    }
    assert_eq!(tables(&database).await, expected);
    assert_eq!(divergences(&database).await, []);
}
