//! Digests: how an owner's aggregates of one kind stand, in so few numbers that millions of them can be compared with a
//! reader's copies. Ids fall into 256 buckets by their last byte; a bucket has a count, the highest version and a hash.
//!
//! What the owner answers here is compared by [`crate::reconcile`]; what was lost on the way is sent again by `resend`.

use domain::messages::chassis::{Bucket, Digest, GetDigest, ListLogged, ListVersions, Logged, LoggedPage, Resend, Resent, Versions};
use domain::{Reason, Rejection};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::amnesia::WRITTEN;
use crate::batch::{Answers, Batch, Handle, Sent};
use crate::context::Context;
use crate::database::Tx;
use crate::fault::Fault;
use crate::limits;
use crate::query::{Answer, Show};

/// Where aggregates or their copies stand, by the statement that selects them.
#[derive(Clone, Copy, Debug)]
pub enum Copies {
    /// Copies: `id`, `epoch`, `version`.
    Versions(&'static str),
    /// That an aggregate was seen is all that is kept: `id`.
    Ids(&'static str),
    /// Their owner is outside and cannot be asked.
    OfOutsider,
}

impl Copies {
    /// A select of id, epoch and version; none of an outsider's aggregates.
    pub(crate) fn select(self) -> Option<String> {
        match self {
            Copies::Versions(select) => Some(format!("select id, epoch, version from ({select}) as copies")),
            Copies::Ids(select) => Some(format!("select distinct id, 0 as epoch, 0::bigint as version from ({select}) as copies")),
            Copies::OfOutsider => None,
        }
    }

    pub(crate) fn ids_only(self) -> bool {
        matches!(self, Copies::Ids(_))
    }
}

/// The aggregates that a service owns.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    /// Kind, and the statement that selects `id` and `version` of each.
    pub(crate) kinds: Vec<(&'static str, &'static str)>,
}

impl Owner {
    /// A select of id, epoch and version of a kind.
    fn select(&self, kind: &str, ids_only: bool) -> Result<String, Rejection> {
        let found = self.kinds.iter().find(|(known, _)| *known == kind);
        let (_, states) = found.ok_or_else(|| Reason::MalformedRequest.with(format!("aggregate {kind:?} is not owned by this service")))?;
        Ok(if ids_only {
            format!("select id, 0 as epoch, 0::bigint as version from ({states}) as states")
        } else {
            format!("select id, (select epoch from service_state) as epoch, version from ({states}) as states")
        })
    }
}

/// The digest of a select of id, epoch and version.
pub(crate) async fn digest(connection: &mut PgConnection, select: &str) -> Result<Vec<Bucket>, Fault> {
    let statement = format!(
        "select get_byte(uuid_send(id), 15), count(*), max(version),
                bit_xor(('x' || left(md5(id::text || '/' || epoch || '/' || version), 16))::bit(64)::bigint)
         from ({select}) as known group by 1 order by 1"
    );
    let rows: Vec<(i32, i64, i64, i64)> = sqlx::query_as(&statement).persistent(false).fetch_all(connection).await?;
    let bucket = |(bucket, aggregates, newest, hash): (i32, i64, i64, i64)| Bucket { bucket, aggregates, newest, hash };
    Ok(rows.into_iter().map(bucket).collect())
}

impl Show<GetDigest> for Owner {
    async fn show(&self, tx: &mut Tx, _: &Context, query: GetDigest) -> Answer<Digest> {
        let select = self.select(&query.aggregate, query.ids_only)?;
        let epoch = sqlx::query_scalar("select epoch from service_state").fetch_one(&mut **tx).await.map_err(Fault::from)?;
        Ok(Digest { epoch, buckets: digest(tx, &select).await? })
    }
}

impl Show<ListVersions> for Owner {
    async fn show(&self, tx: &mut Tx, _: &Context, query: ListVersions) -> Answer<Versions> {
        let select = self.select(&query.aggregate, query.ids_only)?;
        let statement = format!(
            "select id, epoch, version from ({select}) as known
             where get_byte(uuid_send(id), 15) = $1 and id > $2 order by id limit $3"
        );
        let items: Vec<(Uuid, i32, i64)> = sqlx::query_as(&statement)
            .persistent(false)
            .bind(query.bucket)
            .bind(query.after)
            .bind(limits::VERSIONS_MAX as i64)
            .fetch_all(&mut **tx)
            .await
            .map_err(Fault::from)?;
        let next = items.last().map(|last| last.0).filter(|_| items.len() == limits::VERSIONS_MAX);
        Ok(Versions { items, next })
    }
}

impl Show<ListLogged> for Owner {
    async fn show(&self, tx: &mut Tx, _: &Context, query: ListLogged) -> Answer<LoggedPage> {
        // before the events: what is not settled then is looked at again
        let settled = sqlx::query_scalar(&format!("select {WRITTEN} from (values ($1::int)) as unused (place)"))
            .bind(0)
            .bind(limits::LOG_SETTLED.as_secs_f64())
            .fetch_one(&mut **tx)
            .await
            .map_err(Fault::from)?;
        let items: Vec<(i64, Uuid, i32, i64, Uuid)> = sqlx::query_as(
            "select log_id, aggregate_id, epoch, version, event_id from event_log
             where log_id > $1 order by log_id limit $2",
        )
        .bind(query.after)
        .bind(limits::VERSIONS_MAX as i64)
        .fetch_all(&mut **tx)
        .await
        .map_err(Fault::from)?;
        let next = items.last().map(|last| last.0).filter(|_| items.len() == limits::VERSIONS_MAX);
        let logged = |(log_id, aggregate_id, epoch, version, event_id)| Logged { log_id, aggregate_id, epoch, version, event_id };
        Ok(LoggedPage { items: items.into_iter().map(logged).collect(), next, settled, epoch: tx.epoch() })
    }
}

impl Handle<Resend> for Owner {
    async fn handle(&self, tx: &mut Tx, batch: &Batch<Resend>) -> Result<Answers<Resent>, Fault> {
        let mut answers = Answers::new();
        for Sent { body, .. } in batch.iter() {
            let asked = body.ids.len() + body.log_ids.len();
            if asked > limits::VERSIONS_MAX {
                answers
                    .push(Err(Reason::MalformedRequest.with(format!("{asked} events are asked for, more than {}", limits::VERSIONS_MAX))));
                continue;
            }
            let events: i64 = sqlx::query_scalar(
                "with newest as (
                    select log_id, stream from unnest($1::uuid[]) as asked (id)
                    cross join lateral (select log_id, stream from event_log where aggregate_id = asked.id
                                        order by epoch desc, version desc limit 1) as event
                    union
                    select log_id, stream from event_log where log_id = any($2)
                 ), again as (
                    insert into outbox_pending (first_log_id, last_log_id, stream, events, next_attempt)
                    select log_id, log_id, stream, 1, clock_timestamp() - make_interval(secs => $3) from newest
                    on conflict (first_log_id, stream) do nothing
                 )
                 select count(*) from newest",
            )
            .bind(&body.ids)
            .bind(&body.log_ids)
            .bind(limits::LEFT_OVER_AFTER.as_secs_f64())
            .fetch_one(&mut **tx)
            .await?;
            answers.push(Ok(Resent { events }));
        }
        Ok(answers)
    }
}
