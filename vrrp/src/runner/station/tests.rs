//! A station on a scripted link: what it does there, in which order, and what it counts.

use super::*;
use crate::link::Overheard;
use crate::machine::Preempt;
use crate::packet::{Family, GROUP_V4};
use crate::params::{Centis, Version, Vrid};
use crate::runner::Ability;
use crate::runner::sync::SyncGroups;
use ipnet::IpNet;
use std::io;
use std::net::Ipv4Addr;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// Keeps what was asked of it and answers from its fields.
#[derive(Default)]
struct Script {
    survey: Survey,
    is_broken: bool,
    queue: VecDeque<Vec<u8>>,
    done: Vec<&'static str>,
    held: Vec<usize>,
    overheard: Option<Overheard>,
    looks: Vec<bool>,
    sent: Vec<Vec<u8>>,
    destinations: Vec<IpAddr>,
}

impl Link for Script {
    fn survey(&mut self) -> Result<Survey, LinkError> {
        self.answer("look")?;
        Ok(self.survey.clone())
    }

    fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> Result<Option<Datagram<'a>>, LinkError> {
        let Some(bytes) = self.queue.pop_front() else { return Ok(None) };
        let place = &mut buffer[..bytes.len()];
        place.copy_from_slice(&bytes);
        Ok(Some(Datagram { bytes: place, carrier: None, received: at(1) }))
    }

    fn send(&mut self, destination: IpAddr, advert: &[u8]) -> Result<(), LinkError> {
        self.done.push("send");
        self.destinations.push(destination);
        self.sent.push(advert.to_vec());
        self.answer("send")
    }

    fn hold_addresses(&mut self, places: std::ops::Range<usize>) -> Result<(), LinkError> {
        self.done.push("hold");
        self.held.extend(places);
        self.answer("hold")
    }

    fn renew_addresses(&mut self) -> Result<(), LinkError> {
        self.done.push("renew");
        self.answer("renew")
    }

    fn reassign(&mut self, _: &[IpNet], _: Duration) -> Result<(), LinkError> {
        self.done.push("reassign");
        self.answer("reassign")
    }

    fn redirect(&mut self, _: Vec<IpAddr>, _: Option<IpAddr>) {
        self.done.push("redirect");
    }

    fn drop_addresses(&mut self) -> Result<(), LinkError> {
        self.done.push("drop");
        self.answer("drop")
    }

    fn announce(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        assert_eq!(frame.len(), 42);
        self.done.push("announce");
        self.answer("announce")
    }

    fn descriptors(&self) -> [Option<RawFd>; 2] {
        [None; 2]
    }

    fn overhear(&mut self, is_on: bool) {
        self.looks.push(is_on);
    }

    fn overheard(&mut self) -> Option<Overheard> {
        self.overheard.take()
    }

    fn close(&mut self) {}

    fn is_concerned(&self, _: &Change) -> bool {
        true
    }
}

impl Script {
    fn answer(&self, operation: &'static str) -> Result<(), LinkError> {
        let broken = || LinkError::new(operation, "eth0", io::Error::from_raw_os_error(libc::EPERM));
        if self.is_broken { Err(broken()) } else { Ok(()) }
    }
}

fn at(milliseconds: u64) -> Time {
    Time(milliseconds * 1_000_000)
}

fn router() -> Router {
    let settings = Settings {
        vrid: Vrid::new(51).unwrap(),
        family: Family::V4,
        version: Version::V3,
        priority: Priority(254),
        advert_interval: Centis::new(10).unwrap(),
        down_adverts: 3,
        preempt: Preempt::Never,
        addresses: vec![VIP.into()],
    };
    Router::new(
        "vip".to_owned(),
        "eth0".to_owned(),
        settings,
        vec!["10.0.0.100/24".parse().unwrap()],
        Duration::from_secs(3),
    )
}

/// Started at 0 on a usable link.
fn backup() -> Station<Script> {
    let survey = Survey {
        source: Some(OWN),
        mac: [2, 0, 0, 0, 0, 1],
        is_forwarding: false,
        virtual_present: 0,
        is_resident: false,
    };
    let mut station = Station::new(router(), Script { survey, ..Script::default() });
    station.survey(at(0));
    assert_eq!(station.machine.state(), State::Backup);
    station
}

/// Took over after the down interval.
fn active() -> Station<Script> {
    let mut station = backup();
    station.tick(at(301));
    assert_eq!(station.machine.state(), State::Active);
    station.link.survey.virtual_present = 1;
    station
}

/// A datagram as a raw socket delivers it: IPv4 header with this TTL, then the message.
fn datagram(ttl: u8, message: &[u8]) -> Vec<u8> {
    let length = (20 + message.len()) as u16;
    let mut bytes = vec![0x45, 0xc0];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[0, 1, 0, 0, ttl, 112, 0, 0]);
    bytes.extend_from_slice(&PEER.octets());
    bytes.extend_from_slice(&GROUP_V4.octets());
    bytes.extend_from_slice(message);
    bytes
}

fn advert(priority: u8) -> Vec<u8> {
    router().settings.advert(Priority(priority)).encode(PEER.into(), GROUP_V4.into(), Checksum::Pseudo)
}

fn hear(station: &mut Station<Script>, milliseconds: u64, datagrams: &[Vec<u8>]) {
    station.link.queue.extend(datagrams.iter().cloned());
    station.hear(|| at(milliseconds), &mut [0; 4096]);
}

#[test]
fn a_take_over_advertises_then_holds_then_announces_both_forms() {
    let station = active();
    assert_eq!(station.link.done, ["send", "hold", "announce", "announce"]);
    assert_eq!(station.counters.adverts_sent, 1);
    assert_eq!(station.counters.announcements_sent, 2);
    assert_eq!(station.counters.transitions_to_active, 1);
    assert!(station.holds_addresses());
}

#[test]
fn a_losing_advert_makes_the_whole_group_announce_again_and_only_once() {
    let grouped = || {
        let mut station = active();
        station.router.sync_group = Some("both".to_owned());
        station
    };
    let mut stations = [grouped(), grouped()];
    let abilities = [Ability::default(); 2];
    let mut group = SyncGroups::form(&mut stations, &abilities, at(310));
    let announced = |stations: &[Station<Script>]| {
        let of = |station: &Station<Script>| station.link.done.iter().filter(|done| **done == "announce").count();
        [of(&stations[0]), of(&stations[1])]
    };
    stations.iter_mut().for_each(|station| station.link.done.clear());
    hear(&mut stations[0], 320, &[datagram(255, &advert(100))]);
    group.settle(&mut stations, &abilities, at(320));
    assert_eq!(announced(&stations), [2, 2], "both forms, of both members");
    for milliseconds in [330, 400, 500] {
        hear(&mut stations[0], milliseconds, &[datagram(255, &advert(100))]);
        group.settle(&mut stations, &abilities, at(milliseconds));
    }
    assert_eq!(announced(&stations), [2, 2], "more of them add nothing yet");
}

#[test]
fn an_owner_whose_addresses_are_its_own_gives_nothing_away_while_they_are() {
    let mut owner = router();
    owner.settings.priority = Priority::OWNER;
    let survey = Survey { source: Some(OWN), is_resident: true, ..Survey::default() };
    let mut station = Station::new(owner, Script { survey, ..Script::default() });
    station.input(at(0), Input::Health(Health::Unable));
    station.survey(at(0));
    assert_eq!(station.machine.effective_priority(), Priority::OWNER);
    for input in [Input::HandOver, Input::Yield, Input::Health(Health::Unable)] {
        station.input(at(10), input);
        assert_eq!((station.state(), station.machine.effective_priority()), (State::Active, Priority::OWNER));
    }
    let refusals = std::iter::from_fn(|| station.next_remark());
    let is_refusal = |remark: &Remark| matches!(remark, Remark::Event(Event::HandOverRefused));
    assert_eq!(refusals.filter(is_refusal).count(), 1);
    // Somebody took the address off the interface: what is there now is ours, and can move.
    station.link.survey.is_resident = false;
    station.survey(at(20));
    assert_eq!(station.machine.effective_priority(), Priority::RELEASE);
}

#[test]
fn an_address_that_somebody_removed_is_held_again() {
    let mut station = active();
    station.link.survey.virtual_present = 0;
    station.link.done.clear();
    station.survey(at(310));
    assert!(station.link.done.contains(&"hold"), "{:?}", station.link.done);
}

#[test]
fn an_address_that_we_dropped_ourselves_is_not_missed() {
    let mut station = active();
    hear(&mut station, 310, &[datagram(255, &advert(255))]);
    assert_eq!(station.machine.state(), State::Backup);
    assert_eq!(station.link.done.last(), Some(&"drop"));
    station.link.survey.virtual_present = 0;
    station.link.done.clear();
    station.survey(at(311));
    assert!(station.link.done.is_empty(), "{:?}", station.link.done);
}

#[test]
fn every_reason_to_drop_a_datagram_has_its_counter() {
    let mut station = backup();
    let with = |at: usize, value: u8| {
        let mut message = advert(254);
        message[at] = value;
        datagram(255, &message)
    };
    let bad = [
        with(1, 52),
        datagram(255, &advert(254)[..7]),
        datagram(254, &advert(254)),
        with(0, 0x41),
        with(0, 0x32),
        with(6, 0x55),
    ];
    hear(&mut station, 1, &bad);
    let drops = &station.counters.drops;
    let counted = [drops.vrid, drops.length, drops.ttl, drops.version, drops.kind, drops.checksum];
    assert_eq!(counted, [1; 6], "{drops:?}");
    assert_eq!(station.counters.adverts_received, 0);
    assert_eq!(station.machine.active_peer(), None);
}

#[test]
fn a_peer_with_other_settings_counts_and_is_mentioned_once() {
    let mut station = backup();
    while station.next_remark().is_some() {}
    let mut settings = router().settings;
    settings.advert_interval = Centis::new(20).unwrap();
    settings.addresses = vec![Ipv4Addr::new(10, 0, 0, 101).into()];
    let other = settings.advert(Priority(253)).encode(PEER.into(), GROUP_V4.into(), Checksum::Pseudo);
    hear(&mut station, 1, &[datagram(255, &other), datagram(255, &other)]);
    assert_eq!(station.counters.interval_mismatches, 2);
    assert_eq!(station.counters.address_list_mismatches, 2);
    assert!(matches!(station.next_remark(), Some(Remark::Mismatch { interval: true, addresses: true, .. })));
    let rest = events(&mut station);
    assert!(rest.iter().all(|event| matches!(event, Event::AlarmRaised(_))), "{rest:?}");
}

#[test]
fn the_same_refusal_is_mentioned_once_in_a_while() {
    let mut station = active();
    while station.next_remark().is_some() {}
    station.link.is_broken = true;
    let mentioned = |station: &mut Station<Script>| {
        std::iter::from_fn(|| station.next_remark()).filter(|r| matches!(r, Remark::Trouble(..))).count()
    };
    (1..50).for_each(|n| station.tick(at(301 + n * 100)));
    assert!(station.counters.send_errors > 10 && station.counters.address_errors > 1, "{:?}", station.counters);
    assert_eq!(mentioned(&mut station), 3, "one each for sending, renewing and announcing");
    (100..104).for_each(|n| station.tick(at(301 + n * 100)));
    assert!(mentioned(&mut station) >= 1, "again after ten seconds");
}

#[test]
fn a_look_that_fails_counts_as_a_link_that_is_down() {
    let mut station = active();
    station.link.is_broken = true;
    station.survey(at(302));
    assert_eq!(station.machine.state(), State::Initialize);
}

#[test]
fn left_over_addresses_are_kept_until_it_is_clear_whose_they_are() {
    let survey = Survey { source: Some(OWN), virtual_present: 1, ..Survey::default() };
    let mut station = Station::new(router(), Script { survey, ..Script::default() });
    station.survey(at(0));
    assert!(!station.link.done.contains(&"drop"), "adopted, if nobody else is there");
    hear(&mut station, 5, &[datagram(255, &advert(253))]);
    assert!(station.link.done.contains(&"drop"), "{:?}", station.link.done);
}

#[test]
fn a_reload_that_adds_an_address_advertises_it_at_once_and_stays_active() {
    let mut station = active();
    let mut router = router();
    let second = Ipv4Addr::new(10, 0, 0, 101);
    router.settings.addresses.push(second.into());
    router.addresses.push("10.0.0.101/24".parse().unwrap());
    assert!(station.can_become(&router));
    station.link.done.clear();
    station.link.sent.clear();
    station.follow(at(350), router);
    assert_eq!(station.machine.state(), State::Active);
    assert_eq!(station.link.done[..3], ["reassign", "send", "hold"]);
    assert_eq!(station.link.done.iter().filter(|done| **done == "announce").count(), 4, "two forms of both");
    assert!(station.link.sent[0].ends_with(&second.octets()), "{:?}", station.link.sent);
}

#[test]
fn a_weight_is_advertised_at_once_and_survives_a_reload_of_the_base_priority() {
    let mut station = active();
    station.weigh(at(320), -50);
    assert_eq!(station.link.sent.last().map(|advert| advert[2]), Some(204));
    assert_eq!(station.state(), State::Active);
    let lowered = Settings { priority: Priority(200), ..router().settings };
    station.follow(at(330), Router { settings: lowered.clone(), ..router() });
    assert_eq!(station.status().priority, Priority(150));
    station.weigh(at(340), 0);
    assert_eq!(station.status().priority, Priority(200));
    assert_eq!(station.router().settings, lowered);
}

#[test]
fn a_router_on_another_interface_is_another_router() {
    let station = active();
    assert!(!station.can_become(&Router { interface: "eth1".to_owned(), ..router() }));
}

#[test]
fn an_own_advert_that_leaves_late_is_counted() {
    let mut station = active();
    station.tick(at(401));
    assert_eq!(station.counters.late_own_adverts, 0);
    station.tick(at(590));
    assert_eq!(station.counters.late_own_adverts, 1);
}

/// What happened on a slow link: when each advert left, and what it was told to do.
struct Slow {
    station: Station<Script>,
    now: u64,
    adverts: Vec<u64>,
    /// Microseconds for an address, a frame.
    costs: (u64, u64),
}

impl Slow {
    /// Of the runner's loop only the order: adverts, then one slice. Every address and frame takes its time.
    fn run(&mut self, until_ms: u64) {
        while self.now < until_ms * 1_000 {
            let now = Time(self.now * 1_000);
            let before = (self.station.link.held.len(), self.count("announce"), self.count("send"));
            self.station.tick(now);
            self.adverts.extend((before.2..self.count("send")).map(|_| self.now));
            self.station.do_chore(now);
            let held = self.station.link.held.len() - before.0;
            let announced = self.count("announce") - before.1;
            self.now += held as u64 * self.costs.0 + announced as u64 * self.costs.1;
            let due = self.station.deadline().map_or(u64::MAX, |due| due.0.div_ceil(1_000));
            self.now = self.now.max(due.min(until_ms * 1_000));
        }
    }

    fn count(&self, what: &str) -> usize {
        self.station.link.done.iter().filter(|done| **done == what).count()
    }
}

#[test]
fn two_hundred_addresses_on_a_slow_link_delay_no_advert_by_half_an_interval() {
    let mut router = router();
    router.excluded = (0..199_u8).map(|host| IpNet::from(IpAddr::from([10, 0, 1, host]))).collect();
    let survey = Survey { source: Some(OWN), mac: [2, 0, 0, 0, 0, 1], ..Survey::default() };
    let mut station = Station::new(router, Script { survey, ..Script::default() });
    station.survey(at(0));
    // A hundred times slower than a real kernel: in one go this would be 0.2 s, and as much for the frames.
    let mut slow = Slow { station, now: 0, adverts: Vec::new(), costs: (1_000, 500) };
    slow.run(5_000);
    let station = &slow.station;
    assert_eq!(station.machine.state(), State::Active);
    assert_eq!(station.link.held, (0..200).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(station.machine.settings().addresses.len(), 1, "excluded ones are not advertised");
    let gaps: Vec<_> = slow.adverts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| (50_000..150_000).contains(gap)), "{gaps:?}");
    assert_eq!(station.counters.late_own_adverts, 0);
    // Of the moments 0, 50, 200 ms, 1.1 s and 3 s the first three are one: they come before all is held.
    assert_eq!(slow.count("announce"), 3 * 400);
    let first_announcement = station.link.done.iter().position(|done| *done == "announce").unwrap();
    let last_hold = station.link.done.iter().rposition(|done| *done == "hold").unwrap();
    assert!(last_hold < first_announcement, "nothing is announced before it is held");
}

#[test]
fn a_burst_of_losing_adverts_is_no_storm_of_announcements() {
    let mut station = active();
    station.link.done.clear();
    let before = station.counters.announcements_sent;
    hear(&mut station, 310, &vec![datagram(255, &advert(100)); 500]);
    let after = station.counters.announcements_sent;
    assert_eq!(after - before, 2, "one, in both forms");
    (32..100).for_each(|n| station.tick(at(n * 10)));
    assert_eq!(station.counters.announcements_sent - after, 2 * 2, "the burst's at 351 and 501 ms");
}

#[test]
fn addresses_that_are_not_all_held_yet_are_not_missed() {
    let mut router = router();
    router.excluded = (0..199_u8).map(|host| IpNet::from(IpAddr::from([10, 0, 1, host]))).collect();
    let survey = Survey { source: Some(OWN), ..Survey::default() };
    let mut station = Station::new(router, Script { survey, ..Script::default() });
    station.survey(at(0));
    station.tick(at(301));
    assert_eq!(station.link.held.len(), 32);
    station.link.survey.virtual_present = 32;
    station.survey(at(302));
    assert_eq!(station.link.held.len(), 32);
    while station.do_chore(at(303)) {}
    assert_eq!(station.link.held.len(), 200);
    station.survey(at(304));
    assert!(station.link.held.len() > 200, "now they are");
}

fn alarms(station: &Station<Script>) -> Vec<Alarm> {
    station.alarms.raised().map(|(alarm, _)| alarm).collect()
}

fn events(station: &mut Station<Script>) -> Vec<Event> {
    let remarks = std::iter::from_fn(|| station.next_remark());
    remarks.filter_map(|remark| if let Remark::Event(event) = remark { Some(event) } else { None }).collect()
}

fn encoded(change: impl FnOnce(&mut Settings), priority: u8) -> Vec<u8> {
    let mut settings = router().settings;
    change(&mut settings);
    let message = settings.advert(Priority(priority)).encode(PEER.into(), GROUP_V4.into(), Checksum::Pseudo);
    datagram(255, &message)
}

#[test]
fn a_peer_with_other_settings_raises_the_alarm_of_its_kind_once() {
    let interval = encoded(|settings| settings.advert_interval = Centis::new(20).unwrap(), 253);
    let list = encoded(|settings| settings.addresses.push(Ipv4Addr::new(10, 0, 0, 101).into()), 253);
    let foreign = encoded(|settings| settings.addresses = vec![Ipv4Addr::new(10, 9, 9, 9).into()], 253);
    let mut zero = encoded(|_| {}, 253);
    zero[20 + 4..20 + 6].fill(0);
    zero[20 + 7] = zero[20 + 7].wrapping_add(10); // the interval was 10
    let cases = [
        (interval, Alarm::IntervalMismatch),
        (list, Alarm::AddressListMismatch),
        (foreign, Alarm::DuplicateVrid),
        (zero, Alarm::ZeroInterval),
    ];
    for (bytes, alarm) in cases {
        let mut station = backup();
        hear(&mut station, 1, &[bytes.clone(), bytes.clone(), bytes]);
        assert_eq!(alarms(&station), [alarm]);
        assert_eq!(station.alarms.counts(alarm), (1, 3));
        let raised: Vec<_> = events(&mut station);
        assert_eq!(raised.iter().filter(|event| **event == Event::AlarmRaised(alarm)).count(), 1);
        station.tick(at(70_000));
        assert!(events(&mut station).contains(&Event::AlarmCleared(alarm)), "after a quiet minute");
    }
}

#[test]
fn an_advert_from_our_own_address_is_a_conflict() {
    let mut station = backup();
    let mut bytes = encoded(|_| {}, 253);
    bytes[12..16].copy_from_slice(&[10, 0, 0, 1]);
    let message = router().settings.advert(Priority(253)).encode(OWN, GROUP_V4.into(), Checksum::Pseudo);
    bytes.truncate(20);
    bytes.extend_from_slice(&message);
    hear(&mut station, 1, &vec![bytes; 500]);
    assert_eq!(alarms(&station), [Alarm::AddressConflict]);
    assert!(events(&mut station).len() <= REMARKS_MAX + 2, "a flood fills no memory");
}

#[test]
fn a_loser_that_goes_on_raises_not_heard_for_as_long_as_it_does() {
    let mut station = active();
    (31..600).for_each(|n| {
        hear(&mut station, n * 10, &[encoded(|_| {}, 100)]);
        station.tick(at(n * 10));
    });
    assert_eq!(alarms(&station), []);
    // The script's datagrams all arrive at 1 ms; a duel needs time.
    station.report(at(6_000), Event::NotHeard { by: PEER.into() });
    assert_eq!(alarms(&station), [Alarm::NotHeard]);
    (600..3_000).for_each(|n| station.tick(at(n * 10)));
    hear(&mut station, 30_000, &[encoded(|_| {}, 100)]);
    (3_000..5_990).for_each(|n| station.tick(at(n * 10)));
    assert_eq!(alarms(&station), [Alarm::NotHeard], "still going on at 30 s");
    (5_990..6_100).for_each(|n| station.tick(at(n * 10)));
    assert_eq!(alarms(&station), []);
}

#[test]
fn what_the_kernel_refuses_to_send_raises_an_alarm() {
    let mut station = active();
    station.link.is_broken = true;
    station.tick(at(401));
    assert_eq!(alarms(&station), [Alarm::SendRefused]);
}

#[test]
fn a_stall_beyond_the_lease_raises_both_alarms_and_keeps_its_length() {
    let mut station = active();
    station.tick(at(1_300));
    assert_eq!(alarms(&station), [Alarm::Stalled]);
    let mut station = active();
    station.tick(at(5_300));
    assert_eq!(alarms(&station), [Alarm::Stalled, Alarm::LeaseExpired]);
    assert_eq!(station.counters.longest_stall, Duration::from_millis(4_999));
}

#[test]
fn addresses_that_somebody_keeps_removing_raise_an_alarm_at_the_second_time() {
    let mut station = active();
    for (time, expected) in [(400, &[][..]), (600, &[Alarm::AddressesRemoved])] {
        station.link.survey.virtual_present = 0;
        station.survey(at(time));
        assert_eq!(alarms(&station), expected);
    }
}

#[test]
fn silence_on_the_socket_but_not_on_the_wire_is_a_firewall() {
    let mut station = backup();
    station.watch(at(250));
    assert_eq!(station.link.looks, [true]);
    station.watch(at(500));
    assert_eq!(station.link.looks, [true, false]);
    station.watch(at(600));
    assert_eq!(alarms(&station), []);
    station.link.overheard = Some(Overheard { from_others: 2, from_our_address: 0 });
    station.watch(at(700));
    assert_eq!(alarms(&station), [Alarm::Filtered]);
    station.watch(at(11_000));
    station.watch(at(11_500));
    station.link.overheard = Some(Overheard { from_others: 0, from_our_address: 1 });
    station.watch(at(11_600));
    assert_eq!(alarms(&station), [Alarm::AddressConflict, Alarm::Filtered]);
}

#[test]
fn a_link_that_fails_again_and_again_raises_damped() {
    let mut station = active();
    for moment in (310..32_000).step_by(10) {
        station.tick(at(moment));
        if moment % 10_000 == 0 {
            assert_eq!(station.machine.state(), State::Active, "it is alone");
            station.link.survey.source = None;
            station.survey(at(moment));
            station.link.survey.source = Some(OWN);
            station.survey(at(moment + 5));
        }
    }
    assert_eq!(alarms(&station), [Alarm::Damped]);
}

#[test]
fn the_third_late_advert_raises_an_alarm() {
    let mut station = active();
    [490, 690].iter().for_each(|time| station.tick(at(*time)));
    assert_eq!((station.counters.late_own_adverts, alarms(&station)), (2, vec![]));
    station.tick(at(890));
    assert_eq!(alarms(&station), [Alarm::LateAdverts]);
}

#[test]
fn a_second_owner_is_named() {
    let mut owner = router();
    owner.settings.priority = Priority::OWNER;
    let survey = Survey { source: Some(OWN), ..Survey::default() };
    let mut station = Station::new(owner, Script { survey, ..Script::default() });
    station.survey(at(0));
    assert_eq!(station.machine.state(), State::Active);
    hear(&mut station, 1, &[datagram(255, &advert(255))]);
    assert_eq!(alarms(&station), [Alarm::TwoOwners]);
}

#[test]
fn a_reload_that_adds_an_excluded_address_holds_and_announces_without_an_advert() {
    let mut station = active();
    let mut router = router();
    router.excluded.push("10.0.0.101/24".parse().unwrap());
    assert!(station.can_become(&router));
    station.link.done.clear();
    station.link.held.clear();
    station.follow(at(350), router);
    assert_eq!(station.link.held, [0, 1]);
    assert_eq!(station.link.done, ["reassign", "hold", "announce", "announce", "announce", "announce"]);
}

#[test]
fn another_virtual_mac_makes_another_router() {
    let station = active();
    assert!(!station.can_become(&Router { virtual_mac: Some(crate::link::VirtualMac::default()), ..router() }));
}
