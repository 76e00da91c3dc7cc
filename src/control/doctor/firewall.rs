//! Reads what nft(8) and iptables-save(8) print for rules that drop adverts. Pure; a guess, since rules may depend on
//! anything: whether adverts arrive is tried, this only names the likely culprit.

use super::facts::Rule;

/// Rules of `nft list ruleset` that drop protocol 112 or the groups, and chains that drop all they do not accept.
pub(super) fn in_nft(ruleset: &str) -> Vec<Rule> {
    let (mut found, mut table, mut chain) = (Vec::new(), String::new(), Chain::default());
    for line in ruleset.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ").and_then(|rest| rest.strip_suffix('{')) {
            table = name.trim().to_owned();
        } else if let Some(name) = line.strip_prefix("chain ").and_then(|rest| rest.strip_suffix('{')) {
            chain = Chain { name: format!("{table} {}", name.trim()), ..Chain::default() };
        } else if line == "}" {
            found.extend(std::mem::take(&mut chain).verdict());
        } else {
            found.extend(chain.read(line));
        }
    }
    found
}

/// The same in the form of iptables-save(8).
pub(super) fn in_iptables(rules: &str) -> Vec<Rule> {
    let drops = |line: &&str| (line.contains("-j DROP") || line.contains("-j REJECT")) && names_vrrp(line);
    let chain = |line: &str| line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    rules.lines().filter(drops).map(|line| Rule { chain: chain(line), text: line.to_owned() }).collect()
}

#[derive(Default)]
struct Chain {
    name: String,
    /// Sees what comes in or goes out, and drops it in the end.
    drops_rest: bool,
    accepts_vrrp: bool,
}

impl Chain {
    fn read(&mut self, line: &str) -> Option<Rule> {
        if line.starts_with("type ") && line.contains(" hook ") {
            let is_on_the_way = ["input", "output", "prerouting", "ingress", "egress", "postrouting"]
                .iter()
                .any(|hook| line.contains(&format!("hook {hook} ")));
            self.drops_rest = is_on_the_way && line.contains("policy drop");
            return None;
        }
        let drops = line.ends_with("drop") || line.contains(" drop comment") || line.contains("reject");
        if drops && (names_vrrp(line) || line == "drop" || line == "counter drop") && !self.accepts_vrrp {
            return Some(Rule { chain: self.name.clone(), text: line.to_owned() });
        }
        self.accepts_vrrp |= line.contains("accept") && names_vrrp(line);
        None
    }

    fn verdict(self) -> Option<Rule> {
        let text = "policy drop, and no rule accepts vrrp".to_owned();
        (self.drops_rest && !self.accepts_vrrp).then_some(Rule { chain: self.name, text })
    }
}

/// By protocol, by group, or as multicast at large.
fn names_vrrp(line: &str) -> bool {
    let words = line.split(|c: char| c.is_whitespace() || matches!(c, ',' | '{' | '}' | '"'));
    let names = ["vrrp", "112", "224.0.0.18", "224.0.0.18/32", "224.0.0.0/4", "224.0.0.0/24", "ff02::12", "ff00::/8"];
    line.contains("pkttype multicast") || words.into_iter().any(|word| names.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_drop_adverts_are_found_with_their_chain() {
        let ruleset = "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n\
                       \t\ttcp dport 22 drop\n\t\tip protocol vrrp drop\n\t}\n}\n";
        let rule = Rule { chain: "inet filter input".to_owned(), text: "ip protocol vrrp drop".to_owned() };
        assert_eq!(in_nft(ruleset), [rule]);
        for text in ["ip daddr 224.0.0.18 drop", "meta l4proto 112 counter drop", "meta pkttype multicast drop"] {
            let ruleset = format!("table ip t {{\n chain c {{\n {text}\n }}\n}}");
            assert_eq!(in_nft(&ruleset).len(), 1, "{text}");
        }
    }

    #[test]
    fn a_policy_of_drop_is_one_unless_vrrp_is_accepted() {
        let chain = |rule: &str| {
            format!("table inet f {{\n chain in {{\n type filter hook input priority 0; policy drop;\n {rule}\n }}\n}}")
        };
        assert_eq!(in_nft(&chain("tcp dport 22 accept"))[0].text, "policy drop, and no rule accepts vrrp");
        assert_eq!(in_nft(&chain("ip protocol { icmp, vrrp } accept")), []);
        assert_eq!(in_nft(&chain("ip saddr 10.77.0.2 ip protocol 112 accept")), []);
    }

    #[test]
    fn chains_that_adverts_do_not_pass_and_other_rules_are_left_alone() {
        let forward = "table inet f {\n chain fw {\n type filter hook forward priority 0; policy drop;\n }\n}";
        assert_eq!(in_nft(forward), []);
        assert_eq!(in_nft("table ip t {\n chain c {\n tcp dport 1120 drop\n }\n}"), []);
    }

    #[test]
    fn iptables_rules_are_read_too() {
        let rules =
            "*filter\n-A INPUT -p vrrp -j DROP\n-A INPUT -p tcp -j DROP\n-A INPUT -d 224.0.0.0/4 -j REJECT\nCOMMIT\n";
        let chains: Vec<_> = in_iptables(rules).into_iter().map(|rule| rule.chain).collect();
        assert_eq!(chains, ["INPUT", "INPUT"]);
    }
}
