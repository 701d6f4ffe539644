//! Their figures beside ours: what both have, and what only one of them has.

use std::collections::{BTreeMap, BTreeSet};

use ::domain::messages::allocation_status::{Allocation, AllocationDecision};
use ::domain::messages::capital_calls::{CallDecision, CallLine, ListCapitalCalls, ListPayments, Payment};
use ::domain::{Reason, Rejection};
use uuid::Uuid;

use super::{Desk, Named, PAGE, PAGES_MAX, grouped, no_allocation, not_read, unread};
use crate::domain::parallel_run::{Compared, Row, TheirAllocation, TheirLine, TheirPayment, TheirPurpose};

impl Desk<'_> {
    /// Compares what a file says.
    pub(super) async fn compare_allocations(&mut self, rows: Vec<Row<TheirAllocation>>) -> Result<Vec<Compared>, Rejection> {
        let (mut compared, mut funds, mut met) = (Vec::with_capacity(rows.len()), BTreeSet::new(), BTreeSet::new());
        for Row { line, said } in rows {
            let found = match &said {
                Ok(theirs) => match self.fund(&theirs.fund).await {
                    Ok(fund_id) => {
                        funds.insert(fund_id);
                        let of_deal = |ours: &&Allocation| ours.deal_id == theirs.deal_id;
                        let all = self.allocations_of(fund_id).await?;
                        let found = all.iter().filter(of_deal).find(|ours| ours.decision.holds_capacity());
                        let found = found.or_else(|| all.iter().find(of_deal)).cloned();
                        found.ok_or_else(|| no_allocation(fund_id, theirs.deal_id))
                    }
                    Err(rejection) => Err(rejection),
                },
                Err(rejection) => Err(rejection.clone()),
            };
            compared.push(match (&said, found) {
                (Ok(theirs), Ok(ours)) => {
                    met.insert(ours.id);
                    Compared::allocation(line, theirs, &ours)
                }
                (Ok(theirs), Err(rejection)) => Compared::only_theirs(line, &theirs.deal_id.to_string(), rejection),
                (Err(_), found) => Compared::only_theirs(line, "", found.err().unwrap_or_else(unread)),
            });
        }
        for fund_id in funds {
            let ours = self.allocations_of(fund_id).await?.iter();
            let ours = ours.filter(|ours| ours.decision == AllocationDecision::Active && !met.contains(&ours.id));
            compared.extend(ours.map(|ours| Compared::only_ours(ours.deal_id.to_string(), ours.id, ours.amount)));
        }
        Ok(compared)
    }

    /// Compares what a file says.
    pub(super) async fn compare_calls(&mut self, rows: Vec<Row<TheirPurpose>>) -> Result<Vec<Compared>, Rejection> {
        let (calls, unreadable) = grouped(rows);
        let mut compared: Vec<Compared> = unreadable.into_iter().map(not_read).collect();
        let (mut funds, mut met) = (BTreeSet::new(), BTreeSet::new());
        for (line, purposes) in calls {
            let number = &purposes[0].call;
            let found = match self.fund(&purposes[0].fund).await {
                Ok(fund_id) => {
                    funds.insert(fund_id);
                    self.call(fund_id, number).await
                }
                Err(rejection) => Err(rejection),
            };
            compared.push(match found {
                Ok(ours) => {
                    met.insert(ours.call.id);
                    Compared::call(line, &purposes, &ours.call)
                }
                Err(rejection) => Compared::only_theirs(line, number, rejection),
            });
        }
        for fund_id in funds {
            let mut cursor = None;
            for _ in 0..PAGES_MAX {
                let of = ListCapitalCalls { fund_id: Some(fund_id), cursor, limit: Some(PAGE), ..ListCapitalCalls::default() };
                let page = self.ask(&of).await?;
                let ours = page.items.into_iter().filter(|ours| ours.decision == CallDecision::Issued && !met.contains(&ours.id));
                compared.extend(ours.map(|ours| Compared::only_ours(ours.external_reference.unwrap_or_default(), ours.id, ours.amount)));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
        }
        Ok(compared)
    }

    /// Compares what a file says.
    pub(super) async fn compare_lines(&mut self, rows: Vec<Row<TheirLine>>) -> Result<Vec<Compared>, Rejection> {
        let mut compared = Vec::with_capacity(rows.len());
        let mut met: BTreeMap<Named, BTreeSet<Uuid>> = BTreeMap::new();
        for Row { line, said } in rows {
            let theirs = match said {
                Ok(theirs) => theirs,
                Err(rejection) => {
                    compared.push(Compared::only_theirs(line, "", rejection));
                    continue;
                }
            };
            let reference = format!("{} {}", theirs.call, theirs.investor);
            let found = async {
                let (fund_id, investor_id) = (self.fund(&theirs.fund).await?, self.investor(&theirs.investor).await?);
                Ok::<_, Rejection>((fund_id, investor_id, self.call(fund_id, &theirs.call).await?))
            };
            compared.push(match found.await {
                Ok((fund_id, investor_id, call)) => {
                    met.entry((fund_id, theirs.call.clone())).or_default().insert(investor_id);
                    let ours: Vec<&CallLine> = call.lines.iter().filter(|line| line.investor_id == investor_id).collect();
                    match ours.is_empty() {
                        true => {
                            Compared::only_theirs(line, &reference, Reason::UnknownCallLine.with("the call has no line of this investor"))
                        }
                        false => Compared::line(line, &theirs, &ours),
                    }
                }
                Err(rejection) => Compared::only_theirs(line, &reference, rejection),
            });
        }
        for (named, investors) in met {
            let ours = self.calls.get(&named).into_iter().flatten().flat_map(|call| &call.lines);
            let ours = ours.filter(|line| !investors.contains(&line.investor_id));
            compared.extend(ours.map(|line| Compared::only_ours(format!("{} {}", named.1, line.investor_id), line.id, line.amount)));
        }
        Ok(compared)
    }

    /// Compares what a file says.
    pub(super) async fn compare_payments(&mut self, source: &str, rows: Vec<Row<TheirPayment>>) -> Result<Vec<Compared>, Rejection> {
        let ours = self.reported(source, &rows).await?;
        let (mut compared, mut calls) = (Vec::with_capacity(rows.len()), BTreeMap::new());
        for Row { line, said } in rows {
            let theirs = match said {
                Ok(theirs) => theirs,
                Err(rejection) => {
                    compared.push(Compared::only_theirs(line, "", rejection));
                    continue;
                }
            };
            compared.push(match ours.get(&theirs.payment) {
                Some(payment) => self.compared_payment(line, &theirs, payment).await?,
                None => Compared::only_theirs(line, &theirs.payment, Reason::UnknownPayment.with(format!("{source} {}", theirs.payment))),
            });
            if let Ok(fund_id) = self.fund(&theirs.fund).await
                && let Ok(call) = self.call(fund_id, &theirs.call).await
            {
                calls.insert(call.call.id, theirs.call);
            }
        }
        let met: BTreeSet<Uuid> = ours.values().map(|payment| payment.id).collect();
        for (call_id, number) in calls {
            let mut cursor = None;
            for _ in 0..PAGES_MAX {
                let page = self.ask(&ListPayments { call_id: Some(call_id), cursor, limit: Some(PAGE), ..ListPayments::default() }).await?;
                let ours = page.items.into_iter().filter(|payment| payment.reversal.is_none() && !met.contains(&payment.id));
                let named = |payment: &Payment| payment.external_reference.clone().unwrap_or_else(|| payment.reference.clone());
                compared
                    .extend(ours.map(|payment| Compared::only_ours(format!("{number} {}", named(&payment)), payment.id, payment.amount)));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
        }
        Ok(compared)
    }
}
