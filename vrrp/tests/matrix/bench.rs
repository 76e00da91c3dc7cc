//! One Lyre and one keepalived on a LAN, and who is to blame if they do not agree.

use crate::wire::keepalived::{Keepalived, configuration};
use crate::wire::speaker::Speaker;
use crate::wire::strain::{Canaries, Strain};
use crate::wire::tap::Tap;
use crate::wire::verdict::{Fault, Note, Noted, Rules, judge};
use crate::wire::witness::Witness;
use crate::wire::{Lan, Node, eventually};
use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

pub const V4: [&str; 1] = ["10.77.0.100/24"];
pub const V6: [&str; 1] = ["fd77::100/128"];

/// For what takes milliseconds on an idle machine.
pub const SOON: Duration = Duration::from_secs(20);

/// The nodes by what runs on them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Who {
    Lyre,
    Keepalived,
}

impl Who {
    pub fn other(self) -> Who {
        match self {
            Who::Lyre => Who::Keepalived,
            Who::Keepalived => Who::Lyre,
        }
    }
}

/// A case's two nodes, with all that watches them.
pub struct Bench {
    pub tap: Tap,
    pub lyre: Node,
    pub other: Node,
    pub interval: Duration,
    witness: Witness,
    canaries: RefCell<Canaries>,
    priorities: (u8, u8),
    addresses: Vec<&'static str>,
    lyre_options: String,
    keepalived_extra: String,
    keepalived_interval: Duration,
    preempts: bool,
    is_version_2: bool,
    /// Unicast over IPv6 comes from addresses that can be routed to.
    is_between_globals: bool,
    other_witness: Witness,
}

impl Bench {
    /// The preferred node has priority 254, the other 253, and a lower source address, so that both ties are seen.
    pub fn new(lan: &Lan, interval_ms: u64, preferred: Who, addresses: &[&'static str]) -> Bench {
        let ((lyre_number, other_number), priorities) = match preferred {
            Who::Lyre => ((1, 2), (254, 253)),
            Who::Keepalived => ((2, 1), (253, 254)),
        };
        let (lyre, other) = (lan.node(lyre_number), lan.node(other_number));
        Bench {
            tap: Tap::on(lan),
            witness: Witness::of(&lyre),
            other_witness: Witness::of(&other),
            canaries: RefCell::new(Canaries::start()),
            lyre,
            other,
            is_between_globals: false,
            interval: Duration::from_millis(interval_ms),
            priorities,
            addresses: addresses.to_vec(),
            lyre_options: String::new(),
            keepalived_extra: String::new(),
            keepalived_interval: Duration::from_millis(interval_ms),
            preempts: false,
            is_version_2: false,
        }
    }

    /// With other priorities: Lyre's, keepalived's.
    pub fn with_priorities(self, lyre: u8, keepalived: u8) -> Bench {
        Bench { priorities: (lyre, keepalived), ..self }
    }

    /// With more options of the speaker, and more lines in keepalived's instance.
    pub fn with_options(self, lyre: &str, keepalived: &str) -> Bench {
        Bench {
            preempts: lyre.contains("--preempt-after-ms"),
            is_version_2: lyre.contains("--version 2"),
            lyre_options: lyre.to_owned(),
            keepalived_extra: keepalived.to_owned(),
            ..self
        }
    }

    pub fn between_global_addresses(self) -> Bench {
        Bench { is_between_globals: true, ..self }
    }

    pub fn with_keepalived_interval(self, milliseconds: u64) -> Bench {
        Bench { keepalived_interval: Duration::from_millis(milliseconds), ..self }
    }

    pub fn start_lyre(&self) -> Speaker {
        self.interrupt();
        let (priority, interval, more) = (self.priorities.0, self.interval.as_millis(), &self.lyre_options);
        let options = format!("--priority {priority} --interval-ms {interval} {more}");
        let speaker = Speaker::start(&self.lyre, &options, &self.addresses);
        self.canaries.borrow_mut().attend_to(speaker.process(), "vrrp");
        speaker
    }

    pub fn start_keepalived(&self) -> Keepalived {
        Keepalived::with(&self.other, &self.keepalived_configuration(self.priorities.1))
    }

    pub fn keepalived_configuration(&self, priority: u8) -> String {
        configuration(priority, self.keepalived_interval, &self.addresses, &self.keepalived_extra)
    }

    /// The test is about to take Lyre's process or cable away: nothing is expected of it until `interrupt`.
    pub fn excuse(&self) {
        self.witness.excuse();
    }

    /// The test is about to give Lyre's process or cable back, which then has to listen first.
    pub fn interrupt(&self) {
        self.witness.interrupt();
    }

    /// Generous: three down intervals and what a loaded machine adds.
    pub fn limit(&self) -> Duration {
        self.interval * 12 + Duration::from_secs(15)
    }

    pub fn node(&self, who: Who) -> &Node {
        match who {
            Who::Lyre => &self.lyre,
            Who::Keepalived => &self.other,
        }
    }

    pub fn address(&self, who: Who, is_v4: bool) -> IpAddr {
        let node = self.node(who);
        match is_v4 {
            true => node.address_v4(),
            false if self.is_between_globals => IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, u16::from(node.number)]),
            false => node.address_v6(),
        }
    }

    pub fn families(&self) -> Vec<bool> {
        let is_used = |is_v4: &bool| self.virtual_addresses().iter().any(|address| address.is_ipv4() == *is_v4);
        [true, false].into_iter().filter(is_used).collect()
    }

    pub fn holds(&self, who: Who) -> bool {
        let node = self.node(who);
        self.virtual_addresses().iter().all(|address| node.has_anywhere(&address.to_string()))
    }

    pub fn holds_none(&self, who: Who) -> bool {
        let node = self.node(who);
        !self.virtual_addresses().iter().any(|address| node.has_anywhere(&address.to_string()))
    }

    fn virtual_addresses(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(|network| network.split('/').next().unwrap().parse().unwrap()).collect()
    }

    /// Waits until only this node advertises, for three adverts, and has all addresses.
    #[track_caller]
    pub fn settles_on(&self, who: Who, after: &str) {
        let mut from = self.tap.now();
        eventually(&format!("{who:?} is the only Active after {after}"), self.limit(), || {
            let wanted: Vec<_> = self.families().iter().map(|is_v4| (*is_v4, self.address(who, *is_v4))).collect();
            let is_fine =
                |(is_v4, address): &(bool, IpAddr)| self.tap.actives(*is_v4, from).iter().all(|a| a == address);
            if !wanted.iter().all(is_fine) {
                from = self.tap.now(); // not yet; count anew
            }
            wanted.iter().all(|(is_v4, _)| self.tap.adverts(*is_v4, from).len() >= 3)
        });
        eventually(&format!("{who:?} has the addresses after {after}"), self.limit(), || self.holds(who));
    }

    /// Waits until only this node advertises. Where the other side's adverts tell nothing, its addresses do.
    #[track_caller]
    pub fn advertises(&self, who: Who, after: &str) {
        self.settles_on(who, after);
        self.has_let_go(who.other());
    }

    /// Waits until exactly one node advertises, for four intervals, and says which.
    #[track_caller]
    pub fn one_remains(&self, after: &str) -> Who {
        let is_v4 = self.families()[0];
        let mut remains = None;
        eventually(&format!("one Active after {after}"), self.limit(), || {
            let from = self.tap.now();
            std::thread::sleep(self.interval * 4);
            remains = match self.tap.actives(is_v4, from)[..] {
                [one] if one == self.address(Who::Lyre, is_v4) => Some(Who::Lyre),
                [one] if one == self.address(Who::Keepalived, is_v4) => Some(Who::Keepalived),
                _ => None,
            };
            remains.is_some()
        });
        remains.unwrap()
    }

    #[track_caller]
    pub fn has_let_go(&self, who: Who) {
        eventually(&format!("{who:?} has no address"), self.limit(), || self.holds_none(who));
    }

    /// Waits until so many adverts went over the wire, by whomever.
    #[track_caller]
    pub fn adverts_pass(&self, count: usize) {
        let (from, is_v4) = (self.tap.now(), self.families()[0]);
        eventually("adverts", self.limit() + self.interval * count as u32, || {
            self.tap.adverts(is_v4, from).len() >= count
        });
    }

    /// Lyre's first advert since `from` came at most an interval after its down interval had passed in silence.
    #[track_caller]
    pub fn lyre_took_over_in_time(&self, from: Duration) {
        let strain = self.canaries.borrow().strain();
        for is_v4 in self.families() {
            let record = self.witness.account(is_v4);
            let is_sent = |noted: &&Noted| noted.at >= from && matches!(noted.note, Note::Sent { priority: 1.., .. });
            let sent = record.iter().find(is_sent).expect("an advert of Lyre").at;
            let is_heard = |noted: &&Noted| noted.at < sent && matches!(noted.note, Note::Heard { priority: 1.., .. });
            let heard = record.iter().rfind(is_heard).expect("an advert of keepalived").at;
            // An interval learned from keepalived counts until Lyre is Active itself.
            let interval = self.keepalived_interval;
            let down = interval * 3 + self.rules().skew(self.priorities.0, interval);
            let late = (sent - heard).saturating_sub(down).saturating_sub(strain.within(heard..sent));
            assert!(late <= interval, "took over {late:?} late, v4 {is_v4}");
        }
    }

    /// Nothing Lyre did so far was against the rules, whatever keepalived and the machine did.
    #[track_caller]
    pub fn acquits_lyre(&self, during: &str) {
        self.acquits_lyre_of(during, |_| true);
    }

    /// The same where the test itself kept Lyre from running.
    #[track_caller]
    pub fn acquits_lyre_but_for_silence(&self, during: &str) {
        self.acquits_lyre_of(during, |fault| !matches!(fault, Fault::FellSilent { .. } | Fault::KeptAddress { .. }));
    }

    /// What keepalived did that Lyre must not.
    pub fn faults_of_keepalived(&self) -> Vec<Fault> {
        let record = self.other_witness.account(true);
        let rules = Rules { priority: self.priorities.1, ..self.rules() };
        let end = record.last().map_or(Duration::ZERO, |last| last.at);
        judge(&record, &rules, &self.strain(), end)
    }

    #[track_caller]
    fn acquits_lyre_of(&self, during: &str, is_meant: impl Fn(&Fault) -> bool) {
        let strain = self.canaries.borrow().strain();
        let rules = self.rules();
        for is_v4 in self.families() {
            let record = self.witness.account(is_v4);
            let has_spoken = record.iter().any(|noted| matches!(noted.note, Note::Sent { .. }));
            let last = record.last().filter(|_| has_spoken).expect("Lyre was never Active");
            let mut faults = judge(&record, &rules, &strain, last.at);
            faults.retain(&is_meant);
            assert!(
                faults.is_empty(),
                "Lyre's fault during {during}, v4 {is_v4}: {faults:#?}{}",
                excerpt(&record, &faults)
            );
            let (overlap, stolen) = (self.tap.longest_overlap(is_v4, Duration::ZERO, self.interval), strain.longest());
            if overlap > self.interval {
                eprintln!(
                    "two Actives for {overlap:?} during {during}, not by Lyre; the machine stole up to {stolen:?}"
                );
            }
        }
    }

    fn rules(&self) -> Rules {
        Rules {
            priority: self.priorities.0,
            interval: self.interval,
            addresses: self.virtual_addresses(),
            preempts: self.preempts,
            is_version_2: self.is_version_2,
        }
    }

    /// What Lyre's kernel recorded of one family.
    pub fn record(&self, is_v4: bool) -> Vec<Noted> {
        self.witness.account(is_v4)
    }

    pub fn strain(&self) -> Strain {
        self.canaries.borrow().strain()
    }

    #[track_caller]
    pub fn frames_are_flawless(&self) {
        assert_ne!(self.tap.tshark("vrrp.version == 3"), "", "nothing seen");
        assert_eq!(self.tap.tshark("vrrp.version == 3 && vrrp.checksum.status != 1"), "");
        assert_eq!(self.tap.tshark("vrrp && ((ip && ip.ttl != 255) || (ipv6 && ipv6.hlim != 255))"), "");
        assert_eq!(self.tap.tshark("vrrp && ip && ip.dsfield.dscp != 48"), "");
    }
}

/// What was recorded around the first fault.
fn excerpt(record: &[Noted], faults: &[Fault]) -> String {
    const AROUND: Duration = Duration::from_millis(400);
    let at = faults.iter().map(|fault| match fault {
        Fault::SpokeOn { outranked: at, .. } | Fault::KeptAddress { outranked: at, .. } => *at,
        Fault::FellSilent { from: at, .. } | Fault::AnnouncedWithoutAddress { at, .. } => *at,
        Fault::TookOverFromTheLiving { at, .. } | Fault::TookOverUnheard { at, .. } => *at,
    });
    let Some(at) = at.min() else { return String::new() };
    let near = record.iter().filter(|noted| noted.at + AROUND >= at && noted.at <= at + AROUND);
    near.fold(String::from("\nthe record, in ms from there:\n"), |text, noted| {
        let offset = noted.at.as_secs_f64() - at.as_secs_f64();
        text + &format!("{:>9.3} {:?}\n", offset * 1000.0, noted.note)
    })
}
