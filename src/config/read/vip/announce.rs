//! `announce`: when and how often a new Active sends gratuitous ARP and neighbour advertisements.

use crate::config::file::{Item, Section};
use crate::config::read::Context;
use crate::config::settings::vip::Announcing;
use crate::config::units::show_duration;
use std::time::Duration;

const MOMENTS_MAX: usize = 32;
const MOMENT_MAX: Duration = Duration::from_secs(600);

pub(super) fn read(c: &mut Context, section: Option<Section>) -> Announcing {
    let default = Announcing::default();
    let Some(mut section) = section else { return default };
    let take_over = section.optional("after_take_over").map(|item| list(c, &item));
    let losing = section.optional("after_losing_advert").map(|item| list(c, &item));
    let refresh = section.optional("refresh").map(|item| refresh(c, &item));
    let frames_per_second = section.count(&mut c.f, "frames_per_second", 1..=100_000, default.frames_per_second);
    section.finish(&mut c.f);
    Announcing {
        after_take_over: take_over.unwrap_or(default.after_take_over),
        after_losing_advert: losing.unwrap_or(default.after_losing_advert),
        refresh: refresh.unwrap_or(default.refresh),
        frames_per_second,
    }
}

/// Rising moments. Left out ones are an error, so what is returned then does not matter.
fn list(c: &mut Context, item: &Item) -> Vec<Duration> {
    let mut moments: Vec<Duration> = Vec::new();
    for item in item.list(&mut c.f) {
        let Some(moment) = item.duration(&mut c.f, Duration::ZERO..=MOMENT_MAX) else { continue };
        if moments.last().is_some_and(|last| *last >= moment) {
            let message = format!("{} is not later than the moment before it", show_duration(moment));
            item.error(&mut c.f, message, "Count each from the start: [\"0ms\", \"200ms\", \"1100ms\"].");
        }
        moments.push(moment);
    }
    if moments.len() > MOMENTS_MAX {
        item.error(&mut c.f, format!("has more than {MOMENTS_MAX} moments"), "");
    }
    moments
}

/// `false` is never.
fn refresh(c: &mut Context, item: &Item) -> Option<Duration> {
    if item.is_flag() {
        if item.flag(&mut c.f) == Some(true) {
            item.error(&mut c.f, "must be a duration or false", "Write refresh = \"60s\".");
        }
        return None;
    }
    item.duration(&mut c.f, Duration::from_secs(1)..=Duration::from_secs(86_400))
}
