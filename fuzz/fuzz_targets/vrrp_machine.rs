//! Any sequence of inputs at any pace: the machine's own assertions hold, its actions are few and in order, and the
//! addresses are on the interface exactly while it is Active.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre_vrrp::machine::{Action, Health, Input, Machine, Preempt, Settings, State};
use lyre_vrrp::packet::Family;
use lyre_vrrp::params::{Centis, Priority, Time, Version, Vrid};
use std::net::IpAddr;
use std::time::Duration;

fuzz_target!(|bytes: &[u8]| {
    let [priority, interval, preempt, lease, rest @ ..] = bytes else { return };
    let settings = Settings {
        vrid: Vrid::new(51).unwrap(),
        family: Family::V4,
        version: Version::V3,
        priority: Priority((*priority).max(1)),
        advert_interval: Centis::new(u16::from(*interval).max(1)).unwrap(),
        down_adverts: 3,
        preempt: if preempt & 1 == 0 {
            Preempt::Never
        } else {
            Preempt::After(Duration::from_millis(u64::from(*preempt)))
        },
        addresses: vec![IpAddr::from([10, 0, 0, 100])],
    };
    let mut machine = Machine::new(settings.clone(), Duration::from_secs(u64::from(*lease)));
    let mut now = Time(1 << 40);
    let mut holds_addresses = false;
    for step in rest.chunks_exact(3) {
        let [what, how, when] = step else { return };
        let advert = settings.advert(Priority(*how));
        let source = IpAddr::from([10, 0, 0, when % 4 + 1]);
        // Milliseconds, with a now and then of minutes.
        now = now.plus(Duration::from_millis(u64::from(*when) * if what & 0x80 == 0 { 1 } else { 1_000 }));
        let input = match what & 0x0f {
            0 => Input::LinkUp { source: IpAddr::from([10, 0, 0, how % 2 + 1]) },
            1 => Input::LinkDown,
            2..=5 => Input::Advert {
                advert: &advert,
                source,
                received: Time(now.0.saturating_sub(u64::from(*how) * 10_000_000)),
            },
            6 => Input::Health([Health::Able, Health::Degraded, Health::Unable][usize::from(how % 3)]),
            7 => Input::HandOver,
            8 => Input::Resume,
            9 => Input::AddressLost,
            10 => Input::Shutdown,
            11 => Input::Yield,
            12 => Input::Consent(how % 2 == 0),
            _ => {
                now = machine.deadline().unwrap_or(now).max(now);
                Input::Tick
            }
        };
        machine.handle(now, input);
        let mut actions = 0;
        while let Some(action) = machine.poll() {
            actions += 1;
            match action {
                Action::Send { priority } => assert!(priority == Priority(0) || machine.state() == State::Active),
                Action::Install | Action::Refresh => holds_addresses = true,
                Action::Withdraw => holds_addresses = false,
                Action::Announce => assert!(holds_addresses),
                Action::Report(_) => {}
            }
        }
        assert!(actions <= 8, "{actions} actions for one input");
        assert_eq!(holds_addresses, machine.state() == State::Active);
    }
});
