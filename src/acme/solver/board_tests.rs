//! Tests of the answers in service: two boards over one directory stand for two processes.

#![allow(clippy::disallowed_types, reason = "what a test records is shared, as the thing it stands for is")]

use super::{Board, http, tls};
use crate::acme::install::Install;
use crate::acme::slot::{Identifier, Slot};
use crate::acme::store::tests::Scratch;
use crate::acme::store::{AcmeStore, SharedAnswer, SharedName};
use crate::limits;
use crate::tls::certs::CertifiedPair;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

const NOW: u64 = 1_790_000_000;
const THUMBPRINT: &str = "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ";

/// What a process answers.
#[derive(Default)]
struct Answers {
    tokens: Mutex<BTreeMap<String, String>>,
    names: Mutex<BTreeMap<Identifier, Arc<CertifiedPair>>>,
}

impl Install for Answers {
    fn install(&self, _: &Slot, _: Arc<CertifiedPair>) -> Result<(), String> {
        Ok(())
    }

    fn withdraw(&self, _: &Slot) {}

    fn answer_http(&self, token: &str, key_authorization: &str) {
        self.tokens.lock().unwrap().insert(token.to_owned(), key_authorization.to_owned());
    }

    fn answer_tls(&self, identifier: &Identifier, pair: Arc<CertifiedPair>) {
        self.names.lock().unwrap().insert(identifier.clone(), pair);
    }

    fn forget_http(&self, token: &str) {
        self.tokens.lock().unwrap().remove(token);
    }

    fn forget_tls(&self, identifier: &Identifier) {
        self.names.lock().unwrap().remove(identifier);
    }
}

struct Process {
    answers: Arc<Answers>,
    board: Rc<Board>,
}

impl Process {
    fn new(scratch: &Scratch, leads: bool) -> Self {
        let answers = Arc::<Answers>::default();
        let board = Board::new(Arc::clone(&answers) as _, AcmeStore::open(&scratch.store()));
        board.lead(leads, NOW);
        board.look(NOW);
        Self { answers, board }
    }

    fn give(&self, (name, answer): &(SharedName, SharedAnswer)) {
        assert_eq!(self.board.answer(name, answer, NOW).unwrap(), None, "nothing to tell");
    }

    fn tokens(&self) -> Vec<String> {
        self.answers.tokens.lock().unwrap().keys().cloned().collect()
    }

    fn names(&self) -> usize {
        self.answers.names.lock().unwrap().len()
    }
}

fn token(word: &str) -> (SharedName, SharedAnswer) {
    http(word, &format!("{word}.{THUMBPRINT}"))
}

fn name(digest: u8) -> (SharedName, SharedAnswer) {
    tls(&Identifier::Dns("a.example".to_owned()), [digest; 32])
}

fn shared(scratch: &Scratch) -> usize {
    AcmeStore::open(&scratch.store()).shared_answers().unwrap().len()
}

#[test]
fn a_follower_gives_what_the_leader_shares_and_forgets_it_with_it() {
    let scratch = Scratch::new("board");
    let (leader, follower) = (Process::new(&scratch, true), Process::new(&scratch, false));
    assert_eq!(leader.board.look(NOW), None, "a leader looks at nothing");
    leader.give(&token("t1"));
    leader.give(&name(1));
    assert_eq!(follower.board.look(NOW), Some(limits::ACME_SHARED_LOOK));
    assert_eq!(follower.answers.tokens.lock().unwrap()["t1"], format!("t1.{THUMBPRINT}"));
    assert_eq!(follower.names(), 1);
    let pair = || follower.answers.names.lock().unwrap().values().next().unwrap().serial_hex();
    let first = pair();
    follower.board.look(NOW);
    assert_eq!(pair(), first, "made once");
    leader.give(&name(2));
    follower.board.look(NOW);
    assert_ne!(pair(), first, "another digest, another certificate");
    leader.board.forget(&name(1).0);
    leader.board.forget(&token("t1").0);
    assert_eq!((leader.tokens().len(), leader.names()), (0, 1), "the second order still wants its own");
    follower.board.look(NOW);
    assert_eq!((follower.tokens().len(), follower.names()), (0, 1));
    leader.board.forget(&name(2).0);
    follower.board.look(NOW);
    assert_eq!((follower.names(), shared(&scratch)), (0, 0));
}

#[test]
fn a_follower_that_becomes_leader_answers_until_its_own_order_is_over() {
    let scratch = Scratch::new("board-heir");
    let (leader, heir) = (Process::new(&scratch, true), Process::new(&scratch, false));
    leader.give(&token("t1"));
    leader.give(&token("t2"));
    // A kill runs nothing of a process.
    std::mem::forget(leader);
    heir.board.lead(true, NOW);
    assert_eq!(heir.tokens(), ["t1", "t2"]);
    assert!(heir.board.look(NOW).is_some(), "it sees when they are over");
    // The order is resumed: one token is asked for again.
    heir.give(&token("t1"));
    heir.board.forget(&token("t1").0);
    assert_eq!(heir.tokens(), ["t2"]);
    // The other goes stale.
    let path = scratch.path.join("state/acme/challenges/http-01/t2");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3700);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    heir.board.look(NOW);
    assert_eq!(heir.tokens(), [""; 0]);
    assert_eq!(heir.board.look(NOW), None);
}

#[test]
fn who_leads_no_more_leaves_what_is_shared_to_others() {
    let scratch = Scratch::new("board-ends");
    let (first, second) = (Process::new(&scratch, true), Process::new(&scratch, false));
    first.give(&token("t1"));
    first.board.lead(false, NOW);
    second.board.lead(true, NOW);
    // Its order is given up only now.
    first.board.forget(&token("t1").0);
    assert_eq!(first.tokens(), [""; 0]);
    assert_eq!((second.tokens(), shared(&scratch)), (vec!["t1".to_owned()], 1));
    first.board.look(NOW);
    assert_eq!(first.tokens(), ["t1"], "a follower as any other");
    second.give(&token("t1"));
    second.board.forget(&token("t1").0);
    first.board.look(NOW);
    assert_eq!((first.tokens().len(), second.tokens().len(), shared(&scratch)), (0, 0, 0));
}

#[test]
fn nothing_stays_in_service_when_the_thread_ends() {
    let scratch = Scratch::new("board-drop");
    let (leader, follower) = (Process::new(&scratch, true), Process::new(&scratch, false));
    leader.give(&token("t1"));
    follower.board.look(NOW);
    let answers = [Arc::clone(&leader.answers), Arc::clone(&follower.answers)];
    drop((leader, follower));
    assert!(answers.iter().all(|answers| answers.tokens.lock().unwrap().is_empty()));
}

#[test]
fn an_answer_that_others_cannot_give_is_given_here_and_told() {
    let scratch = Scratch::new("board-disk");
    let leader = Process::new(&scratch, true);
    // Nothing can be made below a file, whoever tries.
    std::fs::write(scratch.path.join("state/acme/challenges"), "").unwrap();
    let (name, answer) = token("t1");
    let told = leader.board.answer(&name, &answer, NOW).unwrap().unwrap();
    assert!(told.contains("other processes do not answer"), "{told}");
    assert_eq!(leader.tokens(), ["t1"]);
}

#[test]
fn time_is_given_only_where_somebody_looks() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let scratch = Scratch::in_memory("board-spread");
        let leader = Process::new(&scratch, true);
        let began = tokio::time::Instant::now();
        leader.board.spread().await;
        assert_eq!(began.elapsed(), std::time::Duration::ZERO);
        let _follower = Process::new(&scratch, false);
        leader.board.spread().await;
        assert_eq!(began.elapsed(), limits::ACME_SHARED_SPREAD);
    });
}
