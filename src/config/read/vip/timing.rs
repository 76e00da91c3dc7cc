//! `version`, `advert_interval`, `preempt`, and the lease that follows from them.

use crate::config::file::{Item, Section};
use crate::config::read::Context;
use crate::config::units::show_duration;
use std::time::Duration;

/// RFC 9568 §5.2.7: 12 bits of centiseconds.
const ADVERT_INTERVAL_MAX: Duration = Duration::from_millis(40_950);

/// Of version 3; 300 ms of silence move the address.
const DEFAULT_CS: u16 = 10;

/// The shortest that version 2 can say.
const DEFAULT_V2_CS: u16 = 100;

pub(super) fn version(c: &mut Context, section: &mut Section) -> u8 {
    let typed = section.optional("version").and_then(|item| item.whole(&mut c.f, 2..=3));
    if typed == Some(2) { 2 } else { 3 }
}

/// Centiseconds.
pub(super) fn advert_interval(c: &mut Context, section: &mut Section, version: u8) -> u16 {
    let typed = section.optional("advert_interval").and_then(|item| centis(c, &item, version));
    typed.unwrap_or(if version == 2 { DEFAULT_V2_CS } else { DEFAULT_CS })
}

fn centis(c: &mut Context, item: &Item, version: u8) -> Option<u16> {
    let interval = item.duration(&mut c.f, Duration::from_millis(1)..=ADVERT_INTERVAL_MAX)?;
    let ms = interval.as_millis();
    if version == 2 && ms % 1000 != 0 {
        let message = format!("{} is no whole number of seconds, all that version 2 can say", show_duration(interval));
        let near = (ms + 500) / 1000;
        item.error(&mut c.f, message, format!("Write \"{}s\", or version = 3.", near.clamp(1, 40)));
        return None;
    }
    if ms % 10 != 0 {
        let near = (ms / 10).max(1) * 10;
        let message = format!("{ms}ms is not a multiple of 10ms, the unit that adverts carry");
        item.error(&mut c.f, message, format!("Write \"{near}ms\"."));
        return None;
    }
    u16::try_from(ms / 10).ok()
}

/// `false`, `true` (at once) or how long the lower Active must have been heard.
pub(super) fn preempt(c: &mut Context, item: &Item) -> Option<Option<Duration>> {
    if item.is_text() {
        return item.duration(&mut c.f, Duration::ZERO..=Duration::from_secs(3600)).map(Some);
    }
    item.flag(&mut c.f).map(|on| on.then_some(Duration::ZERO))
}

/// How long the kernel keeps an address that nobody refreshes: twice the down interval, whole seconds, 3 at least.
pub(super) fn lease(advert_interval_cs: u16, down_adverts: u8) -> Duration {
    let down_ms = u64::from(advert_interval_cs) * 10 * (u64::from(down_adverts) + 1);
    Duration::from_secs((2 * down_ms).div_ceil(1000).max(3))
}
