//! Who is kept out, as far as the parent is concerned: it carries orders to the worker, and remembers what the worker
//! reported, so that a worker that dies does not let everybody in again.

use super::Supervisor;
use crate::control::admin::{Response, Ticket};
use crate::serve::parent::{BanChange, Banned, Order};
use lyre_vrrp::params::Time;
use std::net::IpAddr;
use std::time::Duration;

/// A worker that does not answer in this time will not.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// What the worker says is untrusted, and this is memory of the privileged process. The oldest gives way.
const KNOWN_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct Bans {
    known: Vec<Known>,
    questions: Vec<Question>,
}

struct Known {
    address: IpAddr,
    until: Option<Time>,
    is_order: bool,
    is_learnt: bool,
}

/// To the worker, under way.
struct Question {
    ticket: Ticket,
    id: u64,
    change: Option<BanChange>,
    deadline: Time,
}

impl Bans {
    pub(super) fn deadline(&self) -> Option<Time> {
        self.questions.iter().map(|question| question.deadline).min()
    }

    fn note(&mut self, now: Time, banned: Banned) {
        self.known.retain(|known| known.address != banned.address && known.until.is_none_or(|until| now < until));
        if self.known.len() >= KNOWN_MAX {
            self.known.remove(0);
        }
        let until = banned.left_ms.map(|ms| now.plus(Duration::from_millis(ms)));
        let Banned { address, is_order, is_learnt, .. } = banned;
        self.known.push(Known { address, until, is_order, is_learnt });
    }

    fn forget(&mut self, address: IpAddr) {
        let network = crate::serve::abuse::network_address(address);
        self.known.retain(|known| known.address != network);
    }

    /// What is not over.
    fn standing(&self, now: Time) -> Vec<Banned> {
        let is_on = |known: &&Known| known.until.is_none_or(|until| now < until);
        let left = |until: Time| u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX);
        let banned = |known: &Known| Banned {
            address: known.address,
            left_ms: known.until.map(left),
            is_order: known.is_order,
            is_learnt: known.is_learnt,
        };
        self.known.iter().filter(is_on).map(banned).collect()
    }
}

impl Supervisor {
    pub(super) fn ask_bans(&mut self, now: Time, ticket: Ticket, change: Option<BanChange>) {
        self.next_id += 1;
        let id = self.next_id;
        if self.worker.is_ready() && self.worker.send(&Order::Bans { id, change }, &[]) {
            self.bans.questions.push(Question { ticket, id, change, deadline: now.plus(ANSWER_TIME) });
        } else {
            self.answer(now, Some(ticket), 503, "no worker runs at the moment; try again in a second");
        }
    }

    /// An answer nobody asked for is ignored.
    pub(super) fn answer_bans(&mut self, now: Time, id: u64, answer: Result<String, String>) {
        let Some(index) = self.bans.questions.iter().position(|question| question.id == id) else { return };
        let question = self.bans.questions.swap_remove(index);
        if let (Some(BanChange::Unban { address }), Ok(_)) = (question.change, &answer) {
            self.bans.forget(address);
        }
        match (question.change, answer) {
            (None, Ok(mut body)) => {
                body.push('\n');
                let response = Response { status: 200, content_type: "application/json", body };
                self.admin.answer(now, question.ticket, &response);
            }
            (Some(_), Ok(message)) => self.answer(now, Some(question.ticket), 200, &message),
            (_, Err(message)) => self.answer(now, Some(question.ticket), 409, &message),
        }
    }

    pub(super) fn expire_bans(&mut self, now: Time) {
        while let Some(index) = self.bans.questions.iter().position(|question| now >= question.deadline) {
            let question = self.bans.questions.swap_remove(index);
            self.answer(now, Some(question.ticket), 504, "the worker did not answer");
        }
    }

    pub(super) fn note_ban(&mut self, now: Time, banned: Banned) {
        self.bans.note(now, banned);
    }

    pub(super) fn note_unban(&mut self, address: IpAddr) {
        self.bans.forget(address);
    }

    /// For a worker that just became ready.
    pub(super) fn restore_bans(&mut self, now: Time) {
        let bans = self.bans.standing(now);
        if !bans.is_empty() {
            self.worker.send(&Order::Restore { bans }, &[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn banned(address: &str, left_ms: Option<u64>) -> Banned {
        Banned { address: address.parse().unwrap(), left_ms, is_order: false, is_learnt: false }
    }

    #[test]
    fn what_is_over_or_lifted_is_not_handed_on() {
        let mut bans = Bans::default();
        bans.note(Time(S), banned("192.0.2.1", Some(10_000)));
        bans.note(Time(S), banned("192.0.2.2", None));
        bans.note(Time(S), banned("2001:db8::", Some(60_000)));
        assert_eq!(bans.standing(Time(3 * S)).first(), Some(&banned("192.0.2.1", Some(8_000))));
        // As the operator names it, and as the worker reports it.
        bans.forget("2001:db8::7".parse().unwrap());
        assert_eq!(bans.standing(Time(11 * S)), [banned("192.0.2.2", None)]);
        // The last word on an address counts.
        bans.note(Time(S), banned("192.0.2.2", Some(1_000)));
        assert_eq!(bans.standing(Time(S)).len(), 2);
        assert!(bans.standing(Time(11 * S)).is_empty());
    }

    #[test]
    fn a_talkative_worker_takes_no_more_than_its_share() {
        let mut bans = Bans::default();
        for n in 0..10_000u32 {
            let address = n.to_be_bytes().into();
            bans.note(Time(S), Banned { address, left_ms: None, is_order: false, is_learnt: true });
        }
        assert_eq!(bans.known.len(), KNOWN_MAX);
    }
}
