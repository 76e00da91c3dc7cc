//! Two to five machines on a simulated LAN, in virtual time: a phase of seeded chaos (loss, delay, duplication,
//! stalls, crashes, cables, partitions, health, orders), then calm. Rules that hold at every step, and what must have
//! become of the LAN in the calm, are asserted by name.
//!
//! `LYRE_LAN_RUNS=1000000` sets the number of runs; `LYRE_LAN_SEED=42` replays one run and prints it.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // our own constants; a replayed run is printed

use lyre_vrrp::machine::{Action, DEGRADED_MAX, Event, Health, Input, Machine, Preempt, Settings, State};
use lyre_vrrp::packet::{Advert, Family};
use lyre_vrrp::params::{Centis, Priority, Time, Version, Vrid, active_down_interval};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Sized for CI on two cores in the dev profile.
const RUNS: u64 = 200_000;

#[test]
fn every_lan_ends_with_one_active_per_connected_component() {
    if let Some(seed) = variable("LYRE_LAN_SEED") {
        let outcome = Lan::new(seed, true).run();
        assert_eq!(outcome, Ok(()), "seed {seed}");
        return;
    }
    let runs = variable("LYRE_LAN_RUNS").unwrap_or(RUNS);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= runs {
                        return;
                    }
                    if let Err(broken) = Lan::new(seed, false).run() {
                        next.store(runs, Ordering::Relaxed);
                        panic!("seed {seed}: {broken}\nreplay: LYRE_LAN_SEED={seed} cargo test -p lyre-vrrp --test lan -- --nocapture");
                    }
                }
            });
        }
    });
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Global nanoseconds; each node reads its own clock, see [`Node::offset`].
type Nanos = u64;

struct Lan {
    now: Nanos,
    random: Random,
    nodes: Vec<Node>,
    /// Frames in flight and faults to come.
    events: BinaryHeap<Reverse<(Nanos, u64, Occurrence)>>,
    serial: u64,
    adverts: Vec<(IpAddr, Advert)>,
    weather: Weather,
    /// The longest advert interval of any node; all phases are multiples of it.
    interval: Nanos,
    prints: bool,
    /// Nobody may change state from here on.
    is_settled: bool,
}

/// How bad the wire is during the chaos.
struct Weather {
    loss_percent: u64,
    duplicate_percent: u64,
    delay_max: Nanos,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Occurrence {
    Deliver { to: usize, advert: usize },
    Fault,
}

struct Node {
    machine: Machine,
    settings: Settings,
    lease: Duration,
    source: IpAddr,
    /// What the node's clock shows more than the global one: wall time and boot time mean nothing to a machine.
    offset: Nanos,
    /// Nodes of different groups do not hear each other.
    group: u64,
    is_link_up: bool,
    is_crashed: bool,
    health: Health,
    /// The process sleeps until then; frames queue up.
    stalled_until: Nanos,
    queue: VecDeque<(Nanos, usize)>,
    /// When the process looks at its timers: deadline plus some scheduling latency.
    wake: Nanos,
    /// When the last advert went out.
    sent: Nanos,
    holds_addresses: bool,
    /// The kernel removes the addresses then, process or not.
    lease_until: Nanos,
    was_robbed: bool,
    /// Restarted with addresses on the interface that it has neither adopted nor withdrawn yet.
    is_adopting: bool,
}

/// A socket buffer full of adverts; later ones are lost, so after a long sleep only old ones are found.
const QUEUE_MAX: usize = 8;

impl Lan {
    fn new(seed: u64, prints: bool) -> Lan {
        let mut random = Random(seed);
        let count = random.within(2..6) as usize;
        let base_cs = random.pick(&[1_u16, 4, 10, 100]);
        let mixed = random.percent(20);
        let preempt = random.pick(&[Preempt::Never, Preempt::Never, Preempt::After(Duration::ZERO)]);
        let has_ties = random.percent(20);
        let mut nodes = Vec::new();
        for index in 0..count {
            let interval_cs = if mixed { base_cs * random.within(1..5) as u16 } else { base_cs };
            let priority = if has_ties { random.within(253..256) as u8 } else { 254 - index as u8 };
            let settings = Settings {
                vrid: Vrid::new(51).unwrap(),
                family: Family::V4,
                version: Version::V3,
                priority: Priority(priority),
                advert_interval: Centis::new(interval_cs).unwrap(),
                down_adverts: 3,
                preempt,
                addresses: vec![IpAddr::from([10, 0, 0, 100])],
            };
            let lease = settings.advert_interval.duration() * 8;
            let host = ((index as u64 * 7 + seed) % 5) as u8 + 1;
            nodes.push(Node {
                machine: Machine::new(settings.clone(), lease),
                settings,
                lease,
                source: IpAddr::from([10, 0, 0, host]),
                offset: random.within(1..1 << 50),
                group: 0,
                is_link_up: false,
                is_crashed: false,
                health: Health::Able,
                stalled_until: 0,
                queue: VecDeque::new(),
                wake: Nanos::MAX,
                sent: 0,
                holds_addresses: false,
                lease_until: Nanos::MAX,
                was_robbed: false,
                is_adopting: false,
            });
        }
        let longest = nodes.iter().map(|node| node.interval()).max().unwrap();
        let shortest = nodes.iter().map(|node| node.interval()).min().unwrap();
        let weather = Weather {
            loss_percent: random.pick(&[0, 0, 5, 20, 50]),
            duplicate_percent: random.pick(&[0, 0, 10]),
            delay_max: random.pick(&[1, shortest / 100, shortest / 5, shortest * 2]),
        };
        Lan {
            now: 0,
            random,
            nodes,
            events: BinaryHeap::new(),
            serial: 0,
            adverts: Vec::new(),
            weather,
            interval: longest,
            prints,
            is_settled: false,
        }
    }

    fn run(mut self) -> Result<(), String> {
        if self.prints {
            for (index, node) in self.nodes.iter().enumerate() {
                println!("node {index}: {} {:?}", node.source, node.settings);
            }
        }
        for node in 0..self.nodes.len() {
            self.set_link(node, true)?;
        }
        let chaos_end = self.interval * self.random.within(5..40);
        for _ in 0..self.random.within(0..9) {
            let at = self.random.within(0..chaos_end);
            self.schedule(at, Occurrence::Fault);
        }
        self.advance_to(chaos_end)?;
        self.calm_down()?;
        // An offer of three down intervals, then a wait of three down intervals of up to four intervals, and some.
        self.advance_to(chaos_end + self.interval * 30)?;
        if self.is_about_to_change() {
            return Ok(());
        }
        let actives = self.judge()?;
        self.is_settled = true;
        self.advance_to(chaos_end + self.interval * 38)?;
        if self.judge()? != actives {
            return Err("the Active changed in the calm".into());
        }
        Ok(())
    }

    /// Whether a node became or becomes ready to take the address from a living Active around now: damping and the
    /// time a returned link needs are longer than most runs.
    fn is_about_to_change(&self) -> bool {
        let times = [self.now - self.interval * 12, self.now, self.now + self.interval * 8];
        self.nodes.iter().any(|node| {
            let [before, now, after] = times.map(|at| node.machine.may_preempt(Time(at + node.offset)));
            before != now || now != after
        })
    }

    /// Runs everything that happens before `end`.
    fn advance_to(&mut self, end: Nanos) -> Result<(), String> {
        loop {
            let event = self.events.peek().map_or(Nanos::MAX, |Reverse((at, ..))| *at);
            let (waking, node) = self.next_wake();
            let at = event.min(waking);
            if at >= end {
                self.now = end;
                self.expire_leases();
                return Ok(());
            }
            self.now = self.now.max(at);
            self.expire_leases();
            if waking <= event {
                self.wake(node)?;
                continue;
            }
            match self.events.pop() {
                Some(Reverse((_, _, Occurrence::Deliver { to, advert }))) => self.deliver(to, advert)?,
                Some(Reverse((_, _, Occurrence::Fault))) => self.fault(end)?,
                None => {}
            }
        }
    }

    fn next_wake(&self) -> (Nanos, usize) {
        let wakes = self.nodes.iter().enumerate().map(|(index, node)| (node.wake.max(node.stalled_until), index));
        wakes.min().unwrap_or((Nanos::MAX, 0))
    }

    fn wake(&mut self, index: usize) -> Result<(), String> {
        let must_yield = self.was_replaced_while_asleep(&self.nodes[index]);
        let must_listen = self.missed_adverts_while_asleep(&self.nodes[index]);
        // First what is queued, with the kernel's receive times, then the timer.
        while let Some((received, advert)) = self.nodes[index].queue.pop_front() {
            self.hear(index, advert, received)?;
        }
        if std::mem::take(&mut self.nodes[index].was_robbed) {
            self.handle(index, Input::AddressLost)?;
        }
        self.handle(index, Input::Tick)?;
        if must_yield && self.nodes[index].machine.state() == State::Active {
            return Err(format!("node {index} was replaced while it slept and is still Active"));
        }
        if must_listen && self.nodes[index].machine.state() == State::Active {
            return Err(format!("node {index} took over from an Active it slept through"));
        }
        Ok(())
    }

    /// Whether an Active slept for longer than any Backup waits, and a successor in good health waits in its queue.
    fn was_replaced_while_asleep(&self, node: &Node) -> bool {
        let slept = node.machine.state() == State::Active && self.now - node.sent >= node.danger();
        let is_successor = |advert: &Advert| advert.priority > DEGRADED_MAX;
        let mut queue = node.queue.iter();
        slept
            && node.settings.preempt == Preempt::Never
            && node.settings.priority != Priority::OWNER
            && queue.any(|(received, advert)| *received > node.sent && is_successor(&self.adverts[*advert].1))
    }

    /// Whether a Backup slept until its socket buffer overflowed with adverts of an Active in good health.
    fn missed_adverts_while_asleep(&self, node: &Node) -> bool {
        let is_well = |advert: &Advert| advert.priority > DEGRADED_MAX;
        node.machine.state() == State::Backup
            && node.settings.preempt == Preempt::Never
            && node.settings.priority != Priority::OWNER
            && node.queue.len() == QUEUE_MAX
            && node.queue.iter().all(|(_, advert)| is_well(&self.adverts[*advert].1))
    }

    fn deliver(&mut self, to: usize, advert: usize) -> Result<(), String> {
        let now = self.now;
        let node = &mut self.nodes[to];
        if node.is_crashed || !node.is_link_up {
            return Ok(());
        }
        if node.stalled_until > now {
            if node.queue.len() < QUEUE_MAX {
                node.queue.push_back((now, advert));
            }
            return Ok(());
        }
        self.hear(to, advert, now)
    }

    fn hear(&mut self, index: usize, advert: usize, received: Nanos) -> Result<(), String> {
        let received = Time(received + self.nodes[index].offset);
        let (source, advert) = self.adverts[advert].clone();
        self.handle(index, Input::Advert { advert: &advert, source, received })?;
        if advert.priority > Priority::RELEASE && self.nodes[index].is_adopting {
            return Err(format!("node {index} heard an Active and keeps addresses of its former life"));
        }
        Ok(())
    }

    /// One input, all its actions, and the rules that hold after each of them.
    fn handle(&mut self, index: usize, input: Input<'_>) -> Result<(), String> {
        let what = self.prints.then(|| format!("{input:?}"));
        self.act(index, what, |machine, now| machine.handle(now, input))
    }

    /// `lyre reload` with another priority.
    fn reprioritise(&mut self, index: usize) -> Result<(), String> {
        let priority = Priority(self.random.within(240..255) as u8);
        let node = &mut self.nodes[index];
        node.settings.priority = priority;
        let (settings, lease) = (node.settings.clone(), node.lease);
        self.act(index, Some(format!("{priority:?}")), |machine, now| machine.reconfigure(now, settings, lease))
    }

    fn act(&mut self, index: usize, what: Option<String>, step: impl FnOnce(&mut Machine, Time)) -> Result<(), String> {
        let latency = if self.random.percent(10) { self.random.within(0..self.nodes[index].interval() / 5) } else { 0 };
        let now = self.now;
        let node = &mut self.nodes[index];
        let before = node.machine.state();
        let heading = what.filter(|_| self.prints);
        let heading = heading.map(|what| format!("{:12} node {index} {before:?} {what}", now / 1_000));
        step(&mut node.machine, Time(now + node.offset));
        let actions: Vec<Action> = std::iter::from_fn(|| node.machine.poll()).collect();
        if let Some(heading) = heading.filter(|_| !actions.is_empty() || before != node.machine.state()) {
            println!("{heading} -> {:?} {actions:?}", node.machine.state());
        }
        let after = node.machine.state();
        let mut lets_go = false;
        for action in actions {
            match action {
                Action::Send { priority } => {
                    if priority > Priority::RELEASE && after != State::Active {
                        return Err(format!("node {index} advertised {priority} and is {after:?}"));
                    }
                    if lets_go {
                        return Err(format!("node {index} sent after it had let go"));
                    }
                    self.transmit(index, priority);
                }
                Action::Install | Action::Refresh => {
                    let node = &mut self.nodes[index];
                    if action == Action::Refresh && !node.holds_addresses && !node.was_robbed {
                        return Err(format!("node {index} refreshed addresses it does not hold"));
                    }
                    node.holds_addresses = true;
                    node.is_adopting = false;
                    node.lease_until = now + node.lease.as_nanos() as u64;
                }
                Action::Withdraw => {
                    let node = &mut self.nodes[index];
                    node.holds_addresses = false;
                    node.is_adopting = false;
                    lets_go = true;
                }
                Action::Announce => {
                    if after != State::Active || !self.nodes[index].holds_addresses {
                        return Err(format!("node {index} announced and is {after:?}"));
                    }
                }
                Action::Report(Event::Transition { from, to, .. }) => {
                    if (from, to) != (before, after) {
                        return Err(format!("node {index} reported {from:?} to {to:?}, was {before:?} to {after:?}"));
                    }
                    if self.is_settled {
                        return Err(format!("node {index} went from {from:?} to {to:?} in the calm"));
                    }
                }
                Action::Report(_) => {}
            }
        }
        let node = &mut self.nodes[index];
        if after != State::Active && node.holds_addresses && !node.is_adopting {
            return Err(format!("node {index} is {after:?} and holds the addresses"));
        }
        let deadline = node.machine.deadline().map_or(Nanos::MAX, |at| at.0.saturating_sub(node.offset).max(now));
        node.wake = deadline.saturating_add(latency);
        Ok(())
    }

    fn transmit(&mut self, from: usize, priority: Priority) {
        self.nodes[from].sent = self.now;
        let (source, group) = (self.nodes[from].source, self.nodes[from].group);
        if !self.nodes[from].is_link_up {
            return;
        }
        self.adverts.push((source, self.nodes[from].settings.advert(priority)));
        for to in 0..self.nodes.len() {
            if to == from || self.nodes[to].group != group || self.random.percent(self.weather.loss_percent) {
                continue;
            }
            let copies = 1 + u64::from(self.random.percent(self.weather.duplicate_percent));
            for _ in 0..copies {
                let at = self.now + self.random.within(0..self.weather.delay_max.max(1)) + 1;
                self.schedule(at, Occurrence::Deliver { to, advert: self.adverts.len() - 1 });
            }
        }
    }

    fn schedule(&mut self, at: Nanos, what: Occurrence) {
        self.serial += 1;
        self.events.push(Reverse((at, self.serial, what)));
    }

    /// The kernel's part of the dead-man lease.
    fn expire_leases(&mut self) {
        for node in &mut self.nodes {
            if node.holds_addresses && node.lease_until <= self.now {
                node.holds_addresses = false;
                node.was_robbed = !node.is_crashed;
            }
        }
    }

    /// Breaks something; over by `end`.
    fn fault(&mut self, end: Nanos) -> Result<(), String> {
        let index = self.random.within(0..self.nodes.len() as u64) as usize;
        let kind = self.random.within(0..13);
        if self.prints {
            println!("{:12} fault {kind} at node {index}", self.now / 1_000);
        }
        let can_act = !self.nodes[index].is_crashed && self.nodes[index].stalled_until <= self.now;
        match kind {
            0..=2 if can_act => {
                let length = self.random.within(1..self.interval * 20);
                self.nodes[index].stalled_until = (self.now + length).min(end);
            }
            3 if can_act => self.set_link(index, !self.nodes[index].is_link_up)?,
            4 => {
                for node in &mut self.nodes {
                    node.group = self.random.within(0..2);
                }
            }
            5 => self.nodes.iter_mut().for_each(|node| node.group = 0),
            6 if can_act => self.set_random_health(index)?,
            7 if can_act => {
                let order = if self.random.percent(70) { Input::HandOver } else { Input::Resume };
                self.handle(index, order)?;
            }
            8 if can_act && self.nodes[index].holds_addresses && !self.nodes[index].is_adopting => {
                self.nodes[index].holds_addresses = false;
                self.handle(index, Input::AddressLost)?;
            }
            9 if can_act => self.crash(index),
            10 if can_act => self.reprioritise(index)?,
            11 if can_act => self.handle(index, Input::Yield)?,
            12 if can_act => self.handle(index, Input::Slept { late: Duration::from_secs(5) })?,
            _ if self.nodes[index].is_crashed => self.restart(index)?,
            _ => {}
        }
        Ok(())
    }

    /// Ends stalls and losses; cables, groups, health and orders stay as they are or change one last time.
    fn calm_down(&mut self) -> Result<(), String> {
        self.weather = Weather { loss_percent: 0, duplicate_percent: 0, delay_max: self.interval / 1_000 };
        let is_one_lan = self.random.percent(70);
        for index in 0..self.nodes.len() {
            if self.nodes[index].is_crashed && self.random.percent(70) {
                self.restart(index)?;
            }
            self.nodes[index].stalled_until = self.now;
            if is_one_lan {
                self.nodes[index].group = 0;
            }
            // Whatever was queued is read before anything else happens, as after every stall.
            if !self.nodes[index].is_crashed {
                self.wake(index)?;
                if self.random.percent(80) {
                    self.set_link(index, true)?;
                }
            }
        }
        Ok(())
    }

    fn set_link(&mut self, index: usize, up: bool) -> Result<(), String> {
        if self.nodes[index].is_link_up == up {
            return Ok(());
        }
        self.nodes[index].is_link_up = up;
        let source = self.nodes[index].source;
        self.handle(index, if up { Input::LinkUp { source } } else { Input::LinkDown })
    }

    fn set_random_health(&mut self, index: usize) -> Result<(), String> {
        let health = self.random.pick(&[Health::Able, Health::Able, Health::Degraded, Health::Unable]);
        self.nodes[index].health = health;
        self.handle(index, Input::Health(health))
    }

    /// The process dies; what it put on the interface stays until the lease ends.
    fn crash(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.is_crashed = true;
        node.wake = Nanos::MAX;
        node.queue.clear();
        node.machine = Machine::new(node.settings.clone(), node.lease);
    }

    fn restart(&mut self, index: usize) -> Result<(), String> {
        let node = &mut self.nodes[index];
        node.is_crashed = false;
        node.was_robbed = false;
        node.is_adopting = node.holds_addresses;
        let (health, source, is_link_up) = (node.health, node.source, node.is_link_up);
        if node.is_adopting {
            self.handle(index, Input::AddressFound)?;
        }
        self.handle(index, Input::Health(health))?;
        if is_link_up {
            self.handle(index, Input::LinkUp { source })?;
        }
        Ok(())
    }

    /// What must be true once the LAN is calm. Returns the Actives.
    fn judge(&self) -> Result<Vec<usize>, String> {
        let mut all = Vec::new();
        for group in 0..2 {
            let members = || {
                self.nodes
                    .iter()
                    .enumerate()
                    .filter(move |(_, node)| node.group == group && node.is_link_up && !node.is_crashed)
            };
            let actives: Vec<usize> =
                members().filter(|(_, node)| node.machine.state() == State::Active).map(|(index, _)| index).collect();
            for (index, node) in members() {
                let is_active = node.machine.state() == State::Active;
                if is_active != node.holds_addresses {
                    return Err(format!("node {index}: Active {is_active}, addresses {}", node.holds_addresses));
                }
            }
            let can_serve = |node: &Node| node.health != Health::Unable;
            if members().any(|(_, node)| can_serve(node)) {
                let [active] = actives.as_slice() else {
                    return Err(format!("group {group} has the Actives {actives:?}"));
                };
                self.judge_choice(&self.nodes[*active], members().map(|(_, node)| node))?;
            }
            all.extend(actives);
        }
        Ok(all)
    }

    fn judge_choice<'a>(&self, active: &Node, members: impl Iterator<Item = &'a Node>) -> Result<(), String> {
        for node in members.filter(|node| node.machine.may_preempt(Time(self.now + node.offset))) {
            let health = node.machine.health();
            if health == Health::Able && active.health != Health::Able {
                return Err(format!("{} is able, but {} ({:?}) is Active", node.source, active.source, active.health));
            }
            let preempts = matches!(node.settings.preempt, Preempt::After(_));
            if preempts && node.machine.effective_priority() > active.machine.effective_priority() {
                return Err(format!("{} has more priority than the Active {}", node.source, active.source));
            }
        }
        Ok(())
    }
}

impl Node {
    fn interval(&self) -> Nanos {
        self.settings.advert_interval.duration().as_nanos() as u64
    }

    /// Silence after which somebody else may be Active.
    fn danger(&self) -> Nanos {
        active_down_interval(Priority(254), self.settings.advert_interval, 3).as_nanos() as u64
    }
}

/// SplitMix64: one seed, one run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start).max(1)
    }

    fn percent(&mut self, chance: u64) -> bool {
        chance > 0 && self.within(0..100) < chance
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.within(0..from.len() as u64) as usize]
    }
}
