//! One issuance (RFC 8555 §7.4): from an order to a chain that belongs to our key. Each step is on disk
//! before the next one is taken, so that a process killed at any point goes on where it was.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::ca::{Order, OrderStatus, Session};
use super::dns::Provider;
use super::keys;
use super::plan::{FailureKind, SlotState};
use super::slot::Slot;
use super::solver::{self, Board, Means};
use super::store::Pair;
use crate::config::model::Authority;
use crate::limits;
use crate::tls::certs::CertifiedPair;

mod failed;
mod verify;

pub use failed::Failed;

/// The form in which a record is written.
const VERSION: u32 = 1;

/// Steps of an issuance, each on disk when it is passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The key is kept; nothing was asked.
    #[default]
    Prepared,
    /// The order's URL is known.
    Placed,
    /// Answers of challenges are in service; the authority was not told to look.
    Presented,
    /// Control over all names was shown.
    Ready,
    /// The CSR is about to be sent.
    Finalizing,
    /// The chain is here, and verified.
    Issued,
    /// The pair is kept.
    Stored,
    /// The pair is in service.
    Installed,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Prepared,
        Self::Placed,
        Self::Presented,
        Self::Ready,
        Self::Finalizing,
        Self::Issued,
        Self::Stored,
        Self::Installed,
    ];

    /// Its word, in files and in the environment of tests.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Placed => "placed",
            Self::Presented => "presented",
            Self::Ready => "ready",
            Self::Finalizing => "finalizing",
            Self::Issued => "issued",
            Self::Stored => "stored",
            Self::Installed => "installed",
        }
    }
}

/// What is kept of an order beside its key. Unknown fields are ignored, missing ones are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Form in which it was written.
    pub version: u32,
    /// URL of the authority's directory.
    pub directory: String,
    /// URL of the account.
    pub account: String,
    /// What was asked for, sorted.
    pub identifiers: Vec<String>,
    /// Kind of the key.
    pub key: String,
    /// Profile asked for.
    pub profile: Option<String>,
    /// Certificate replaced (RFC 9773 §5).
    pub replaces: Option<String>,
    /// When, in seconds since the epoch.
    pub created: u64,
    /// The order's URL, once it is known.
    pub url: Option<String>,
    /// How far it came.
    pub step: Step,
}

impl Record {
    /// Of an order that is about to be placed.
    #[must_use]
    pub fn new(
        slot: &Slot,
        authority: &Authority,
        account: &str,
        replaces: Option<String>,
        now: u64,
    ) -> Self {
        Self {
            version: VERSION,
            directory: authority.directory.clone(),
            account: account.to_owned(),
            identifiers: slot.identifiers.iter().map(ToString::to_string).collect(),
            key: slot.policy.key.word().to_owned(),
            profile: slot.policy.profile.clone(),
            replaces,
            created: now,
            url: None,
            step: Step::Prepared,
        }
    }

    /// Whether it is for what is asked for now, and young enough: authorizations live an hour.
    #[must_use]
    pub fn fits(&self, slot: &Slot, authority: &Authority, now: u64) -> bool {
        let now_asked = Self::new(slot, authority, &self.account, self.replaces.clone(), self.created);
        let same =
            Self { url: self.url.clone(), step: self.step, version: self.version, ..now_asked } == *self;
        same && now.abs_diff(self.created) < limits::ACME_RESUME_AGE.as_secs()
    }
}

/// Who writes steps down, and looks on.
pub trait Keeper {
    /// The step is passed: write the record down, then go on.
    fn keep(&self, record: &Record) -> impl Future<Output = Result<(), Failed>>;
    /// The authority refused `replaces`: never again for this certificate.
    fn replaces_refused(&self);
    /// A line for the log.
    fn say(&self, line: &str);
    /// Seconds since the epoch, by the authority if the local clock is known to be wrong.
    fn now(&self) -> u64;
}

/// One issuance.
pub struct Job {
    /// What is asked for.
    pub slot: Arc<Slot>,
    /// Of whom.
    pub authority: Authority,
    /// What is remembered of the slot.
    pub state: SlotState,
    /// The account.
    pub session: Session,
    /// Writes DNS records, if dns-01 is configured.
    pub provider: Option<Rc<Provider>>,
    /// The private key, in PEM.
    pub key: Zeroizing<String>,
    /// How far it is.
    pub record: Record,
    /// Patience with the authority's verdict, and with its making of the certificate.
    pub patience: Duration,
}

/// A chain with its key, verified.
pub struct Issued {
    /// In PEM.
    pub pem: Pair,
    /// As it is served.
    pub pair: Arc<CertifiedPair>,
}

/// Goes on with `job` from where it is to its end.
///
/// # Errors
/// [`Failed`].
pub async fn issue(job: &mut Job, board: &Rc<Board>, keeper: &impl Keeper) -> Result<Issued, Failed> {
    let mut order = match job.record.url.clone() {
        Some(url) => job.session.order(&url).await?,
        None => place(job, keeper).await?,
    };
    if !matches!(order.status(), OrderStatus::Processing | OrderStatus::Valid) {
        authorize(job, &mut order, board, keeper).await?;
        finalize(job, &mut order, keeper).await?;
    }
    let chain = order.poll_certificate(job.patience).await?;
    // What the answers said is newer than what the plan's clock knows.
    let now = job.session.authority_time().unwrap_or_else(|| keeper.now());
    let issued = verify::verify(&job.slot, &job.authority, &job.key, chain, now)?;
    step(job, keeper, Step::Issued).await?;
    Ok(issued)
}

/// The record's next step, on disk.
pub async fn step(job: &mut Job, keeper: &impl Keeper, step: Step) -> Result<(), Failed> {
    job.record.step = step;
    keeper.keep(&job.record).await
}

async fn place(job: &mut Job, keeper: &impl Keeper) -> Result<Order, Failed> {
    let profile = job.record.profile.as_deref();
    let replaces = job.record.replaces.as_deref();
    let placed = match job.session.new_order(&job.slot.identifiers, profile, replaces).await {
        Err(error) if replaces.is_some() && error.is_about_replaces() => {
            keeper.replaces_refused();
            job.record.replaces = None;
            job.session.new_order(&job.slot.identifiers, profile, None).await
        }
        placed => placed,
    };
    let order = placed?;
    job.record.url = Some(order.url().to_owned());
    step(job, keeper, Step::Placed).await?;
    Ok(order)
}

/// Shows control over every name that the authority still asks for.
async fn authorize(
    job: &mut Job,
    order: &mut Order,
    board: &Rc<Board>,
    keeper: &impl Keeper,
) -> Result<(), Failed> {
    if order.status() == OrderStatus::Pending {
        let authorizations = order.authorizations().await?;
        let issuers = job.session.caa_identities();
        let means = Means {
            slot: &job.slot,
            state: &job.state,
            provider: job.provider.clone(),
            account: job.session.account_url(),
            issuers: &issuers,
            now: keeper.now(),
        };
        let guards = solver::present(board, &means, &authorizations).await?;
        step(job, keeper, Step::Presented).await?;
        let judged = judge(order, &guards.ready, job.patience).await;
        for line in guards.finish().await {
            keeper.say(&line);
        }
        judged?;
    } else {
        // Ready needs nothing; of an invalid one this tells why.
        order.poll_ready(job.patience).await?;
    }
    step(job, keeper, Step::Ready).await
}

async fn judge(
    order: &mut Order,
    ready: &[(super::slot::Identifier, crate::config::model::ChallengeKind)],
    patience: Duration,
) -> Result<(), Failed> {
    for (identifier, kind) in ready {
        order.set_ready(identifier, *kind).await?;
    }
    order.poll_ready(patience).await?;
    Ok(())
}

async fn finalize(job: &mut Job, order: &mut Order, keeper: &impl Keeper) -> Result<(), Failed> {
    let csr = keys::request(&job.key, &job.slot.identifiers)?;
    // The key is on disk since the first step: an answer that is lost loses no certificate.
    step(job, keeper, Step::Finalizing).await?;
    order.finalize(&csr).await?;
    Ok(())
}

impl Failed {
    /// The certificate is another instance's, which finished the same order.
    fn lost_order() -> Self {
        let text =
            "the certificate belongs to another key: another instance with this account finished the order";
        Self::new(FailureKind::LostOrder, text)
    }
}
