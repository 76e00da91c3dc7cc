//! What clients of the admin socket ask for, and the planned hand-over that one of them (or a stop) started.

use super::{Client, Supervisor};
use crate::control::admin::{Request, Response, Ticket};
use crate::control::clock;
use crate::control::events;
use crate::control::ha::held_addresses;
use crate::control::handover::{DRAIN_TIME, HandOver, Input, Outcome, Step};
use crate::control::status::{self, Failover, Holder};
use crate::control::succession::Answer;
use crate::pair::wire::Handover;
use crate::serve::parent::Order;
use lyre_vrrp::machine::State;
use lyre_vrrp::params::Time;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A worker that does not answer a question in this time is left out of the answer.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// A question to the worker under way.
pub(super) struct Waiting {
    ticket: Ticket,
    id: u64,
    is_metrics: bool,
    pub(super) deadline: Time,
}

pub(super) struct RunningHandOver {
    machine: HandOver,
    started: Time,
    clients: Vec<Ticket>,
    stops_afterwards: bool,
    was_draining: bool,
}

impl RunningHandOver {
    pub(super) fn deadline(&self) -> Time {
        self.machine.deadline()
    }

    pub(super) fn stop_afterwards(&mut self) {
        self.stops_afterwards = true;
    }
}

impl Supervisor {
    pub(super) fn obey_admin(&mut self, now: Time) {
        for (ticket, request) in self.admin.serve(now) {
            match request {
                Request::Status => self.ask_worker(now, ticket, false),
                Request::Metrics => self.ask_worker(now, ticket, true),
                Request::Config => {
                    let running = crate::config::outline::outline(&self.settings);
                    self.admin.answer(now, ticket, &Response::json(200, &running));
                }
                Request::Events => {
                    let line = events::Line { unix_ms: clock::unix_ms(), story: events::Story::Subscribed };
                    self.admin.subscribe(now, ticket, &serde_json::to_string(&line).unwrap_or_default());
                }
                Request::Reload => self.begin_reload(now, Some(ticket)),
                Request::Failover => self.order_failover(now, ticket),
                Request::Resume => self.order_resume(now, ticket),
                Request::Drain => self.order_drain(now, ticket, true),
                Request::Bans => self.ask_bans(now, ticket, None),
                Request::ChangeBan(change) => self.ask_bans(now, ticket, Some(change)),
                Request::Undrain => self.order_drain(now, ticket, false),
            }
        }
    }

    pub(super) fn expire_waiting(&mut self, now: Time) {
        while let Some(late) = self.waiting.iter().find(|waiting| now >= waiting.deadline) {
            let id = late.id;
            if late.is_metrics { self.answer_metrics(now, id, None) } else { self.answer_status(now, id, None) }
        }
    }

    pub(super) fn answer_status(&mut self, now: Time, id: u64, json: Option<&str>) {
        if let Some(ticket) = self.take_waiting(id, false) {
            let response = Response::json(200, &self.status(now, json));
            self.admin.answer(now, ticket, &response);
        }
    }

    pub(super) fn answer_metrics(&mut self, now: Time, id: u64, text: Option<&str>) {
        if let Some(ticket) = self.take_waiting(id, true) {
            let metrics = self.metrics(now) + text.unwrap_or_default();
            self.admin.answer(now, ticket, &Response::metrics(metrics));
        }
    }

    /// The client who asked question `id`; an answer nobody asked for is ignored.
    fn take_waiting(&mut self, id: u64, is_metrics: bool) -> Option<Ticket> {
        let index = self.waiting.iter().position(|waiting| waiting.id == id && waiting.is_metrics == is_metrics)?;
        Some(self.waiting.swap_remove(index).ticket)
    }

    fn ask_worker(&mut self, now: Time, ticket: Ticket, is_metrics: bool) {
        self.next_id += 1;
        let id = self.next_id;
        self.waiting.push(Waiting { ticket, id, is_metrics, deadline: now.plus(ANSWER_TIME) });
        let order = if is_metrics { Order::Metrics { id } } else { Order::Status { id } };
        let is_asked = self.worker.is_ready() && self.worker.send(&order, &[]);
        match (is_asked, is_metrics) {
            (true, _) => {}
            (false, true) => self.answer_metrics(now, id, None),
            (false, false) => self.answer_status(now, id, None),
        }
    }

    fn order_drain(&mut self, now: Time, ticket: Ticket, on: bool) {
        self.is_draining = on;
        let is_told = self.worker.send(&Order::Drain { on }, &[]);
        let message = match (on, is_told) {
            (true, true) => "draining: connections are closed as they become idle",
            (false, true) => "serving as usual",
            (_, false) => "noted; no worker runs at the moment",
        };
        tracing::info!(target: "lyre::control", on, "drain");
        self.answer(now, Some(ticket), 200, message);
    }

    fn order_resume(&mut self, now: Time, ticket: Ticket) {
        match &self.pair {
            None => self.answer(now, Some(ticket), 409, "this node has no [[vip]]"),
            Some(_) if self.hand_over.is_some() => self.answer(now, Some(ticket), 409, "a hand-over is under way"),
            Some(pair) => {
                pair.resume();
                self.answer(now, Some(ticket), 200, "taking part in the election again");
            }
        }
    }

    fn order_failover(&mut self, now: Time, ticket: Ticket) {
        let active = self.pair.as_ref().map(|pair| pair.active_routers());
        match (active, &mut self.hand_over) {
            (None, _) => self.answer(now, Some(ticket), 409, "this node has no [[vip]]"),
            (Some(_), Some(running)) => running.clients.push(ticket),
            (Some(0), None) => {
                let message = format!("this node is not Active: {}", self.describe_holders());
                self.answer(now, Some(ticket), 409, &message);
            }
            (Some(_), None) => self.begin_hand_over(now, Some(ticket)),
        }
    }

    /// Starts a planned hand-over; a stopping process stops after it.
    pub(super) fn begin_hand_over(&mut self, now: Time, client: Client) {
        tracing::info!(target: "lyre::control", "handing the virtual addresses over");
        let drain = DRAIN_TIME.min(self.settings.timeouts.drain);
        self.hand_over = Some(RunningHandOver {
            machine: HandOver::start(now, drain, self.peer_answer_time()),
            started: now,
            clients: client.into_iter().collect(),
            stops_afterwards: self.is_stopping,
            was_draining: self.is_draining,
        });
        let question = self.succession.ask(&self.settings);
        let is_asked = question.is_some_and(|question| self.worker.send(&Order::Pair(question), &[]));
        if !is_asked {
            self.advance_hand_over(now, Input::NotPrepared);
        }
    }

    /// The other node said something about a planned hand-over: ours or its own.
    pub(super) fn hear_peer(&mut self, now: Time, words: Handover) {
        let (reply, answer) = self.succession.heard(now, &self.settings, words);
        if let Some(reply) = reply {
            self.worker.send(&Order::Pair(reply), &[]);
        }
        match answer {
            None => {}
            Some(Answer::Prepared) => self.advance_hand_over(now, Input::Prepared),
            Some(Answer::Refused(why)) => {
                tracing::info!(target: "lyre::control", "the peer cannot forward ({why}): draining before the move");
                self.advance_hand_over(now, Input::NotPrepared);
            }
        }
    }

    pub(super) fn advance_hand_over(&mut self, now: Time, input: Input) {
        let Some(running) = &mut self.hand_over else { return };
        match running.machine.handle(now, input) {
            None => {}
            Some(Step::Drain) => {
                self.is_draining = true;
                self.worker.send(&Order::Drain { on: true }, &[]);
                if !self.worker.is_ready() {
                    self.advance_hand_over(now, Input::Drained);
                }
            }
            Some(Step::Release { is_sheltered }) => {
                if is_sheltered && let Err(error) = self.succession.take_shelter(now, &self.settings) {
                    tracing::warn!(target: "lyre::control", %error, "no shelter for open connections: they will be reset");
                }
                self.offer_addresses();
            }
            Some(Step::OfferAgain) => self.offer_addresses(),
            Some(Step::Done(outcome)) => {
                if let Some(running) = self.hand_over.take() {
                    self.finish_hand_over(now, running, outcome);
                }
            }
        }
    }

    fn offer_addresses(&self) {
        if let Some(pair) = &self.pair {
            pair.hand_over();
        }
    }

    /// Lets go of the addresses once the last connection behind them is finished.
    pub(super) fn finish_shelter(&mut self, now: Time) {
        if self.hand_over.is_some() {
            return;
        }
        let lines = self.view.page.lines().iter();
        let open = lines.map(|line| line.connections.load(Ordering::Relaxed)).fold(0, u64::saturating_add);
        if let Some(words) = self.succession.tick(now, open) {
            self.worker.send(&Order::Pair(words), &[]);
            if !self.is_stopping {
                self.is_draining = false;
                self.worker.send(&Order::Drain { on: false }, &[]);
            }
        }
    }

    fn finish_hand_over(&mut self, now: Time, running: RunningHandOver, outcome: Outcome) {
        if running.stops_afterwards || self.is_stopping {
            self.worker.stop(now, self.settings.timeouts.drain);
        } else {
            self.come_back(&running, outcome);
        }
        let total_ms = now.since(running.started).as_secs_f64() * 1e3;
        let (release_ms, message) = match outcome {
            Outcome::TakenOver { after } => {
                (Some(after.as_secs_f64() * 1e3), format!("handed over: {}", self.describe_holders()))
            }
            Outcome::NobodyTookOver => {
                (None, "no peer took the addresses over; they are still here and nothing was lost".to_owned())
            }
        };
        tracing::info!(target: "lyre::control", total_ms, release_ms, "{message}");
        let moved = release_ms.is_some();
        let answer = Failover { moved, release_ms, total_ms, holders: self.holders(), message };
        let response = Response::json(if moved { 200 } else { 503 }, &answer);
        for ticket in running.clients {
            self.admin.answer(now, ticket, &response);
        }
    }

    /// After a hand-over this node is the other's Backup. It takes part in the election at once, so that the peer may
    /// die; only with preemption it would take the address straight back, and waits for an operator's resume.
    fn come_back(&mut self, running: &RunningHandOver, outcome: Outcome) {
        if outcome == Outcome::NobodyTookOver {
            self.succession.end_shelter();
        }
        // Behind a shelter what is open finishes; `finish_shelter` ends the drain.
        self.is_draining = running.was_draining || self.succession.is_sheltering();
        self.worker.send(&Order::Drain { on: self.is_draining }, &[]);
        let addresses = held_addresses(&self.settings, self.pair.as_ref());
        self.worker.send(&Order::Held { addresses }, &[]);
        let preempts = self.settings.routers.iter().any(|router| router.preempt.is_some());
        match (&self.pair, outcome) {
            (Some(pair), Outcome::NobodyTookOver) => pair.resume(),
            (Some(pair), Outcome::TakenOver { .. }) if !preempts => pair.resume(),
            (Some(_), Outcome::TakenOver { .. }) => {
                tracing::info!(target: "lyre::control", "preempt is set: staying Backup until told to resume");
            }
            (None, _) => {}
        }
    }

    /// A peer that lives answers within its skew time and one advert; the slowest router decides, with room to spare.
    fn peer_answer_time(&self) -> Duration {
        let interval = |cs: u16| Duration::from_millis(u64::from(cs) * 10);
        let slowest = self.settings.routers.iter().map(|router| interval(router.advert_interval_cs)).max();
        slowest.unwrap_or_default() * 4 + Duration::from_secs(1)
    }

    fn holders(&self) -> Vec<Holder> {
        let routers = self.pair.as_ref().map(|pair| pair.status()).unwrap_or_default();
        let holder = |router: &lyre_vrrp::runner::RouterStatus| match (router.state, router.active_peer) {
            (State::Active, _) => Some("this node".to_owned()),
            (_, Some((address, _))) => Some(self.node_name(address)),
            (_, None) => None,
        };
        routers.iter().map(|router| Holder { router: router.name.clone(), holder: holder(router) }).collect()
    }

    fn describe_holders(&self) -> String {
        let describe = |holder: &Holder| match &holder.holder {
            Some(name) => format!("{} is with {name}", holder.router),
            None => format!("nobody is known to hold {}", holder.router),
        };
        self.holders().iter().map(describe).collect::<Vec<_>>().join(", ")
    }

    /// A node's name by its address, else the address (a router's IPv6 adverts come from a link-local one).
    fn node_name(&self, address: std::net::IpAddr) -> String {
        let nodes = self.settings.cluster.iter().flat_map(|cluster| &cluster.nodes);
        nodes.into_iter().find(|node| node.address == address).map_or(address.to_string(), |node| node.name.clone())
    }

    pub(super) fn answer(&mut self, now: Time, client: Client, status: u16, message: &str) {
        self.answer_all(now, client, status, &status::Answer { message: message.to_owned(), errors: Vec::new() });
    }

    pub(super) fn answer_all(
        &mut self,
        now: Time,
        clients: impl IntoIterator<Item = Ticket>,
        status: u16,
        answer: &status::Answer,
    ) {
        let response = Response::json(status, answer);
        for ticket in clients {
            self.admin.answer(now, ticket, &response);
        }
    }
}
