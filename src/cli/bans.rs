//! `lyre ban`, `unban` and `bans`.

use super::client::Client;
use super::{orders, output, status};
use serde::Deserialize;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Listed {
    bans: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    client: String,
    reason: String,
    left_seconds: Option<f64>,
}

pub(super) fn ban(client: &Client, address: IpAddr, length: Option<Duration>, json: bool) -> ExitCode {
    let length = length.map(|length| format!("&for_ms={}", length.as_millis())).unwrap_or_default();
    orders::order(client, &format!("/v1/ban?address={address}{length}"), json)
}

pub(super) fn unban(client: &Client, address: IpAddr, json: bool) -> ExitCode {
    orders::order(client, &format!("/v1/unban?address={address}"), json)
}

pub(super) fn list(client: &Client, json: bool) -> ExitCode {
    let answer = match client.get("/v1/bans", WAIT) {
        Ok(answer) => answer,
        Err(error) => return error.fail(),
    };
    let listed = serde_json::from_str::<Listed>(&answer.body).ok().filter(|_| answer.status == 200 && !json);
    match listed {
        Some(listed) => output::print(&table(&listed.bans)),
        None => orders::show(&answer, json),
    }
}

fn table(bans: &[Ban]) -> String {
    if bans.is_empty() {
        return "nobody is banned\n".to_owned();
    }
    let width = bans.iter().map(|ban| ban.client.len()).max().unwrap_or(0);
    let line = |ban: &Ban| {
        let left = ban.left_seconds.map_or("until it is lifted".to_owned(), |left| format!("{left:.0} s left"));
        format!("{:width$}  {:13}  {left}\n", status::printable(&ban.client), status::printable(&ban.reason))
    };
    bans.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_stand_below_each_other() {
        let listed = r#"{"bans":[{"client":"192.0.2.7","reason":"order","left_seconds":null},
                                 {"client":"2001:db8::/64","reason":"failed_logins","left_seconds":59.6}]}"#;
        let listed: Listed = serde_json::from_str(listed).unwrap();
        assert_eq!(
            table(&listed.bans),
            "192.0.2.7      order          until it is lifted\n2001:db8::/64  failed_logins  60 s left\n"
        );
        assert_eq!(table(&[]), "nobody is banned\n");
    }
}
