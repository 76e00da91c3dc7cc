//! Which of an ExApp's routes a path is, and who may use it.
//!
//! The first route that matches decides, as in HaRP. Two things are stricter, because HaRP looks at the raw path only and
//! ExApps at the decoded one: where the decoded path matches a route too, its level is asked for as well; and a route
//! that only a back-tracking engine could match keeps everything behind it at its own level at least.

use super::path::plain;
use super::pattern::{self, Unusable};
use regex::bytes::Regex;

/// A record with more routes than this is refused.
pub const ROUTES_MAX: usize = 512;

/// Who somebody is to an ExApp, and who a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Public,
    User,
    Admin,
}

impl Level {
    pub fn from_number(number: i64) -> Option<Level> {
        [Level::Public, Level::User, Level::Admin].get(usize::try_from(number).ok()?).copied()
    }
}

#[derive(Debug)]
struct Route {
    url: String,
    pattern: Result<Regex, Unusable>,
    level: Level,
    statuses: Vec<u16>,
}

#[derive(Debug, Default)]
pub struct Routes(Vec<Route>);

/// What a matched route asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule<'r> {
    pub level: Level,
    /// Responses with one of these are failures of the client.
    pub statuses: &'r [u16],
}

impl Routes {
    pub fn add(&mut self, url: String, level: Level, statuses: Vec<u16>) {
        let pattern = pattern::compile(&url);
        self.0.push(Route { url, pattern, level, statuses });
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rule for a raw path without query.
    pub fn rule(&self, target: &[u8]) -> Option<Rule<'_>> {
        let rule = self.first(target)?;
        let decoded = plain(target).and_then(|plain| self.first(&plain));
        Some(Rule { level: decoded.map_or(rule.level, |decoded| decoded.level.max(rule.level)), ..rule })
    }

    fn first(&self, path: &[u8]) -> Option<Rule<'_>> {
        let mut floor = Level::Public;
        for route in &self.0 {
            match &route.pattern {
                Ok(pattern) if pattern.is_match(path) => {
                    return Some(Rule { level: route.level.max(floor), statuses: &route.statuses });
                }
                Ok(_) | Err(Unusable::Broken(_)) => {}
                Err(Unusable::Unsupported(_)) => floor = floor.max(route.level),
            }
        }
        None
    }

    /// The routes that are not run, for the log.
    pub fn unusable(&self) -> impl Iterator<Item = (&str, Unusable)> {
        self.0.iter().filter_map(|route| Some((route.url.as_str(), route.pattern.as_ref().err().copied()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(list: &[(&str, Level)]) -> Routes {
        let mut routes = Routes::default();
        list.iter().for_each(|(url, level)| routes.add(url.to_string(), *level, vec![]));
        routes
    }

    fn level(routes: &Routes, target: &str) -> Option<Level> {
        routes.rule(target.as_bytes()).map(|rule| rule.level)
    }

    #[test]
    fn case_12_paths_are_matched_by_case_start_and_the_patterns_own_end() {
        let routes = routes(&[("^/public$", Level::Public), ("^/user", Level::User)]);
        assert_eq!(level(&routes, "/PUBLIC"), None);
        assert_eq!(level(&routes, "/publicX"), None);
        assert_eq!(level(&routes, "/userX"), Some(Level::User));
    }

    #[test]
    fn case_13_the_first_match_decides() {
        let routes = routes(&[(".*", Level::Admin), ("^/p", Level::Public)]);
        assert_eq!(level(&routes, "/p"), Some(Level::Admin));
    }

    #[test]
    fn case_14_a_broken_route_is_skipped_and_reported() {
        let routes = routes(&[("^/p(", Level::Admin), ("^/p", Level::Public)]);
        assert_eq!(level(&routes, "/p"), Some(Level::Public));
        let reported: Vec<_> = routes.unusable().map(|(url, _)| url).collect();
        assert_eq!(reported, ["^/p("]);
    }

    #[test]
    fn a_route_that_cannot_be_run_opens_nothing_behind_it() {
        let routes = routes(&[("^/(?!x)a", Level::Admin), (".*", Level::Public)]);
        assert_eq!(level(&routes, "/anything"), Some(Level::Admin));
    }

    #[test]
    fn an_encoded_path_asks_for_what_the_decoded_one_asks_for() {
        let routes = routes(&[("^/admin", Level::Admin), (".*", Level::Public)]);
        for target in ["/admin/x", "/%61dmin/x", "//admin/x", "/./admin"] {
            assert_eq!(level(&routes, target), Some(Level::Admin), "{target}");
        }
        assert_eq!(level(&routes, "/a%20b"), Some(Level::Public));
    }

    #[test]
    fn an_encoded_path_opens_no_route_that_the_raw_one_does_not() {
        let routes = routes(&[("^/public$", Level::Public)]);
        assert_eq!(level(&routes, "/%70ublic"), None);
    }
}
