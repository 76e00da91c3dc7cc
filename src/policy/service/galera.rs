//! What a Galera node says of itself as a standing: may it be written to, read from, or neither.
//!
//! A node outside of its cluster still accepts connections and logins, and then fails every query with error 1047; only
//! these variables tell.

use super::Standing;

/// Both statements run on a node that is not ready, and need no grant.
pub const STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN \
    ('wsrep_ready','wsrep_connected','wsrep_local_state','wsrep_cluster_status')";
pub const VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('read_only','wsrep_reject_queries')";

/// The standing of a node that answered `status` to [`STATUS`] and `variables` to [`VARIABLES`]; or why it cannot be
/// used.
pub fn standing(status: &[(String, String)], variables: &[(String, String)]) -> Result<Standing, &'static str> {
    let status = |name: &str| value(status, name);
    let variable = |name: &str| value(variables, name);
    let Some(state) = status("wsrep_local_state") else { return Err("no Galera node: it has no wsrep status") };
    if status("wsrep_cluster_status") != Some("Primary") {
        return Err("its part of the cluster has no majority (wsrep_cluster_status is not Primary)");
    }
    if status("wsrep_connected") == Some("OFF") {
        return Err("it is not connected to the cluster (wsrep_connected is OFF)");
    }
    if status("wsrep_ready") != Some("ON") {
        return Err("it takes no queries (wsrep_ready is not ON)");
    }
    if variable("wsrep_reject_queries").is_some_and(|reject| !reject.eq_ignore_ascii_case("NONE")) {
        return Err("it was told to reject queries (wsrep_reject_queries)");
    }
    if variable("read_only").is_none_or(|read_only| read_only != "OFF") {
        return Err("it was told to be read only (read_only)");
    }
    match state {
        "4" => Ok(Standing::Good),
        "2" => Ok(Standing::Donor),
        "1" => Err("it is joining the cluster (wsrep_local_state 1)"),
        "3" => Err("it is catching up with the cluster (wsrep_local_state 3)"),
        _ => Err("it is not in step with the cluster (wsrep_local_state)"),
    }
}

fn value<'a>(rows: &'a [(String, String)], name: &str) -> Option<&'a str> {
    rows.iter().find(|(row, _)| row.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 6] = [
        ("wsrep_ready", "ON"),
        ("wsrep_connected", "ON"),
        ("wsrep_local_state", "4"),
        ("wsrep_cluster_status", "Primary"),
        ("read_only", "OFF"),
        ("wsrep_reject_queries", "NONE"),
    ];

    /// A good node with some values changed; an empty one is absent.
    fn with(changes: &[(&str, &str)]) -> Result<Standing, &'static str> {
        let rows: Vec<(String, String)> = GOOD
            .iter()
            .map(|(name, value)| (name, changes.iter().find(|(changed, _)| changed == name).map_or(*value, |c| c.1)))
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| ((*name).to_owned(), value.to_owned()))
            .collect();
        let is_variable = |name: &str| !name.starts_with("wsrep_") || name == "wsrep_reject_queries";
        let (variables, status): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(name, _)| is_variable(name));
        standing(&status, &variables)
    }

    #[test]
    fn a_synced_node_of_the_majority_is_good_and_a_donor_is_a_donor() {
        assert_eq!(with(&[]), Ok(Standing::Good));
        assert_eq!(with(&[("wsrep_local_state", "2")]), Ok(Standing::Donor));
        // MySQL-wsrep of old has no such variable.
        assert_eq!(with(&[("wsrep_reject_queries", "")]), Ok(Standing::Good));
    }

    #[test]
    fn every_single_doubt_makes_a_node_unusable() {
        for change in [
            ("wsrep_ready", "OFF"),
            ("wsrep_ready", ""),
            ("wsrep_connected", "OFF"),
            ("wsrep_local_state", "0"),
            ("wsrep_local_state", "1"),
            ("wsrep_local_state", "3"),
            ("wsrep_local_state", "5"),
            ("wsrep_local_state", ""),
            ("wsrep_cluster_status", "non-Primary"),
            ("wsrep_cluster_status", "Disconnected"),
            ("wsrep_cluster_status", ""),
            ("read_only", "ON"),
            ("read_only", ""),
            ("wsrep_reject_queries", "ALL"),
        ] {
            assert!(with(&[change]).is_err(), "{change:?}");
            assert!(with(&[change, ("wsrep_local_state", "2")]).is_err() || change.0 == "wsrep_local_state");
        }
    }
}
