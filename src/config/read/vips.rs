//! The key `vips` of those who speak about some `[[vip]]` only: names or numbers.

use super::Context;
use crate::config::file::{Item, Section};
use crate::config::settings::VirtualRouter;

/// Names of the virtual routers meant; all where nothing is written.
pub(super) fn read(c: &mut Context, section: &mut Section, routers: &[VirtualRouter]) -> Vec<String> {
    written(c, section, routers).unwrap_or_else(|| routers.iter().map(|router| router.name.clone()).collect())
}

/// Names of the virtual routers meant, where some are named.
pub(super) fn written(c: &mut Context, section: &mut Section, routers: &[VirtualRouter]) -> Option<Vec<String>> {
    let item = section.optional("vips")?;
    let mut meant: Vec<String> = Vec::new();
    for item in item.filled_list(&mut c.f, "Write vips = [1], or leave it out for all.") {
        let found = of_one(c, &item, routers);
        meant.extend(found.into_iter().filter(|name| !meant.contains(name)).collect::<Vec<_>>());
    }
    Some(meant)
}

fn of_one(c: &mut Context, item: &Item, routers: &[VirtualRouter]) -> Vec<String> {
    let mut known: Vec<&str> = routers.iter().map(|router| stem(&router.name)).collect();
    known.dedup();
    // A number counts the [[vip]]s of the file, named or not.
    let numbered = |number: u64| {
        let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        place.and_then(|place| known.get(place)).map_or_else(|| format!("vip{number}"), |name| (*name).to_owned())
    };
    let wanted = match item.is_text() {
        true => item.text(&mut c.f).map(str::to_owned),
        false => item.whole(&mut c.f, 1..=1_000).map(numbered),
    };
    let Some(wanted) = wanted else { return Vec::new() };
    let is_meant = |router: &&VirtualRouter| router.name == wanted || stem(&router.name) == wanted;
    let found: Vec<String> = routers.iter().filter(is_meant).map(|router| router.name.clone()).collect();
    if found.is_empty() {
        let hint =
            if known.is_empty() { "Add a [[vip]].".to_owned() } else { format!("There is {}.", known.join(", ")) };
        item.error(&mut c.f, format!("there is no [[vip]] {wanted}"), hint);
    }
    found
}

/// The `[[vip]]` of a router: its name without the family.
fn stem(router: &str) -> &str {
    router.strip_suffix("-v4").or_else(|| router.strip_suffix("-v6")).unwrap_or(router)
}
