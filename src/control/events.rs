//! What happens, as it happens: one JSON object a line on the admin socket (`GET /v1/events`, `lyre events`).
//!
//! Fields and kinds are only ever added: scripts read this.

use crate::control::ha::{Happened, What, word};
use crate::control::track::judge::Standing;
use crate::control::track::watch::Report;
use lyre_vrrp::machine::Event;
use lyre_vrrp::params::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The same alarm of the same router is told once in this time; a duel would tell every advert.
const ALARM_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub unix_ms: u64,
    #[serde(flatten)]
    pub story: Story,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Story {
    /// The first line: from here on nothing is missed.
    Subscribed,
    Transition {
        router: String,
        from: String,
        to: String,
        reason: String,
    },
    /// What a router may do has changed: `able`, `degraded` or `unable`, and what trackers add to its priority.
    Ability {
        router: String,
        health: String,
        weight: i16,
    },
    Tracker {
        tracker: String,
        kind: String,
        state: String,
        fault: bool,
        weight: i16,
        reason: String,
        routers: Vec<String>,
    },
    /// Something an operator should look at; `alarm` is a word, `detail` for people.
    Alarm {
        router: String,
        alarm: String,
        detail: String,
    },
    /// A condition that lasts has begun; `alarm` is one of docs/operations.md.
    AlarmRaised {
        router: String,
        alarm: String,
        remedy: String,
    },
    /// No sign of it any more.
    AlarmCleared {
        router: String,
        alarm: String,
    },
    /// The last line of a subscriber that reads too slowly.
    Dropped {
        reason: String,
    },
}

/// Makes stories of what the speaker reports.
#[derive(Default)]
pub struct Stories {
    alarms: BTreeMap<(String, String), Time>,
}

impl Stories {
    /// `None` for an alarm that was told a moment ago.
    pub fn of(&mut self, router: &str, happened: &Happened) -> Option<Story> {
        let router = router.to_owned();
        Some(match &happened.what {
            What::Ability(ability) => Story::Ability { router, health: word(ability.health), weight: ability.weight },
            What::Event(Event::Transition { from, to, reason }) => {
                Story::Transition { router, from: word(from), to: word(to), reason: word(reason) }
            }
            What::Event(Event::AlarmRaised(alarm)) => {
                Story::AlarmRaised { router, alarm: alarm.name().to_owned(), remedy: alarm.remedy().to_owned() }
            }
            What::Event(Event::AlarmCleared(alarm)) => Story::AlarmCleared { router, alarm: alarm.name().to_owned() },
            What::Event(alarm) => {
                let detail = format!("{alarm:?}");
                let alarm = word(Bare(detail.split([' ', '{', '(']).next().unwrap_or_default()));
                let key = (router.clone(), alarm.clone());
                if self.alarms.get(&key).is_some_and(|last| happened.at.since(*last) < ALARM_PAUSE) {
                    return None;
                }
                self.alarms.insert(key, happened.at);
                Story::Alarm { router, alarm, detail }
            }
        })
    }
}

/// Text that is its own debug form.
struct Bare<'a>(&'a str);

impl std::fmt::Debug for Bare<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

pub fn of_tracker(report: &Report) -> Story {
    Story::Tracker {
        tracker: report.name.clone(),
        kind: report.kind.to_owned(),
        state: standing_word(report.standing).to_owned(),
        fault: report.verdict.is_fault,
        weight: report.verdict.weight,
        reason: report.reason.clone(),
        routers: report.routers.clone(),
    }
}

pub fn standing_word(standing: Standing) -> &'static str {
    match standing {
        Standing::Unknown => "unknown",
        Standing::Good => "good",
        Standing::Bad => "bad",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lyre_vrrp::machine::{Reason, State};
    use lyre_vrrp::params::Priority;

    fn happened(ms: u64, event: Event) -> Happened {
        Happened { at: Time(ms * 1_000_000), index: 0, what: What::Event(event) }
    }

    #[test]
    fn a_line_is_flat_and_reads_back() {
        let event = Event::Transition { from: State::Backup, to: State::Active, reason: Reason::ActiveDown };
        let story = Stories::default().of("vip1-v4", &happened(0, event)).unwrap();
        let line = Line { unix_ms: 7, story };
        let text = serde_json::to_string(&line).unwrap();
        let expected = r#"{"unix_ms":7,"event":"transition","router":"vip1-v4","from":"backup","to":"active","reason":"active_down"}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    }

    #[test]
    fn alarms_are_told_when_they_begin_and_end_however_many_at_once() {
        use lyre_vrrp::runner::Alarm;
        let mut stories = Stories::default();
        for alarm in Alarm::ALL {
            let name = alarm.name().to_owned();
            let raised = stories.of("vip1-v4", &happened(0, Event::AlarmRaised(alarm)));
            assert!(matches!(raised, Some(Story::AlarmRaised { alarm, .. }) if alarm == name));
            let cleared = stories.of("vip1-v4", &happened(1, Event::AlarmCleared(alarm)));
            assert_eq!(cleared, Some(Story::AlarmCleared { router: "vip1-v4".to_owned(), alarm: name }));
        }
    }

    #[test]
    fn a_duel_is_told_once_a_second() {
        let losing = || Event::LosingAdvert { source: [10, 0, 0, 2].into(), priority: Priority(9) };
        let mut stories = Stories::default();
        let told: Vec<bool> =
            [0, 10, 999, 1000].map(|ms| stories.of("vip1-v4", &happened(ms, losing())).is_some()).into();
        assert_eq!(told, [true, false, false, true]);
        let Some(Story::Alarm { alarm, .. }) = stories.of("vip2-v4", &happened(1001, losing())) else { panic!() };
        assert_eq!(alarm, "losing_advert");
    }
}
