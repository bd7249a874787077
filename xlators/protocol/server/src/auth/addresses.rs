//! Lists of addresses, as `auth.addr.*` has them.
//!
//! An entry is an address, a network (`10.0.0.0/8`, `fd00::/8`), a pattern (`192.168.1.*`, `*`) or `localhost`. With `!`
//! before it, it takes addresses out of the list, wherever it stands; a list of nothing but those is everyone else.
//! (GlusterFS 10.3 does not start with an entry that has a `!`.)
//!
//! Names of hosts, which GlusterFS takes, are refused: who answers for the name would decide who is let in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use brickwork_api::options::OptionValue;
use ipnet::{IpNet, Ipv4Net};

/// A list of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    text: String,
    taken_in: Vec<Entry>,
    taken_out: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Anyone,
    Network(IpNet),
    Local,
    /// With `*` for anything, of addresses as people write them.
    Pattern(String),
}

impl OptionValue for Addresses {
    const VALUES: &'static str =
        "addresses, networks (10.0.0.0/8) and patterns (192.168.1.*), separated by commas; with ! not those";

    fn parse(text: &str) -> Result<Addresses, String> {
        let mut list = Addresses { text: text.to_owned(), taken_in: Vec::new(), taken_out: Vec::new() };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.strip_prefix('!') {
                Some(part) => list.taken_out.push(Entry::parse(part.trim())?),
                None => list.taken_in.push(Entry::parse(part)?),
            }
        }
        match (list.taken_in.is_empty(), list.taken_out.is_empty()) {
            (true, true) => return Err("names nobody; `*` is everyone".to_owned()),
            (true, false) => list.taken_in.push(Entry::Anyone),
            (false, _) => {}
        }
        Ok(list)
    }
}

impl Addresses {
    /// As it stands in the volfile.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether `address` is in the list.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_one_of = |entries: &[Entry]| entries.iter().any(|entry| entry.matches(address));
        is_one_of(&self.taken_in) && !is_one_of(&self.taken_out)
    }

    /// Whether this machine's own address is in the list, of either family.
    pub(crate) fn has_local(&self) -> bool {
        let own = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let is_one_of = |entries: &[Entry]| entries.iter().any(|entry| own.iter().any(|own| entry.matches(*own)));
        is_one_of(&self.taken_in) && !is_one_of(&self.taken_out)
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Entry, String> {
        if text == "*" {
            return Ok(Entry::Anyone);
        }
        if text == "localhost" {
            return Ok(Entry::Local);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Entry::Network(IpNet::from(address.to_canonical())));
        }
        if text.starts_with('/') || text.contains('(') {
            return Err(format!("has `{text}`, which is for a subdirectory; only whole subvolumes are served"));
        }
        if text.contains('/') {
            let network = text.parse::<IpNet>().map_err(|_| format!("has `{text}`, which is no network"))?;
            return Ok(Entry::Network(canonical(network)));
        }
        let is_of_an_address = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '*');
        if text.contains('*') && text.chars().all(is_of_an_address) {
            return Ok(Entry::Pattern(text.to_ascii_lowercase()));
        }
        Err(format!(
            "has `{text}`, which is neither an address nor a network nor a pattern; host names are not looked up"
        ))
    }

    fn matches(&self, address: IpAddr) -> bool {
        match self {
            Entry::Anyone => true,
            Entry::Local => address.is_loopback(),
            Entry::Network(network) => network.contains(&address),
            // `1*` is meant for IPv4, not for `1234::`.
            Entry::Pattern(pattern) => {
                address.is_ipv6() == pattern.contains(':') && fits(pattern, &address.to_string())
            }
        }
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// `network`, in IPv4 when it is one of IPv4 written in IPv6: peers are looked up by their IPv4 address.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let IpAddr::V4(address) = network.addr().to_canonical() else { return network };
    match network.prefix_len().checked_sub(MAPPED_BITS) {
        Some(bits) if matches!(network, IpNet::V6(_)) => Ipv4Net::new(address, bits).map_or(network, IpNet::V4),
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(list: &str, address: &str) -> bool {
        Addresses::parse(list).unwrap().has(address.parse().unwrap())
    }

    #[test]
    fn an_address_a_network_and_a_pattern_are_found_among_others() {
        let list = "192.168.1.7, 10.0.0.0/8 ,172.16.*.1,fd00::/8,2001:db8::1";
        for address in ["192.168.1.7", "10.200.3.4", "172.16.44.1", "fd00:1::9", "2001:db8::1"] {
            assert!(has(list, address), "{address}");
        }
        for address in ["192.168.1.70", "11.0.0.1", "172.16.44.2", "fe80::1", "2001:db8::2"] {
            assert!(!has(list, address), "{address}");
        }
    }

    #[test]
    fn a_pattern_ends_where_it_says_and_is_of_one_family() {
        assert!(has("192.168.1.*", "192.168.1.255") && !has("192.168.1.*", "192.168.10.1"));
        assert!(has("1*", "1.2.3.4") && has("1*", "100.2.3.4") && !has("1*", "1234::1"));
        assert!(has("FD00:*", "fd00:1::2") && !has("fd00:*", "fd01::2"));
        assert!(has("*", "9.9.9.9") && has("*", "::1"));
    }

    #[test]
    fn an_exclamation_mark_takes_out_wherever_it_stands() {
        for list in ["10.0.0.*,!10.0.0.5", "!10.0.0.5,10.0.0.*", "10.0.0.0/24, ! 10.0.0.5"] {
            assert!(has(list, "10.0.0.4"), "{list}");
            assert!(!has(list, "10.0.0.5"), "{list}");
            assert!(!has(list, "99.9.9.9"), "{list}");
        }
    }

    #[test]
    fn a_list_of_nothing_but_exclusions_is_everyone_else() {
        assert!(has("!10.0.0.5", "10.0.0.4") && has("!10.0.0.5", "fd00::1") && !has("!10.0.0.5", "10.0.0.5"));
        assert!(!has("!10.0.0.5,!*.7", "1.2.3.7"));
    }

    #[test]
    fn an_ipv4_address_that_comes_over_ipv6_is_that_address() {
        assert!(has("10.0.0.5", "::ffff:10.0.0.5") && has("::ffff:10.0.0.5", "10.0.0.5"));
        assert!(has("::ffff:10.0.0.0/104", "10.1.2.3") && !has("::ffff:10.0.0.0/104", "11.1.2.3"));
        assert!(has("10.0.0.*", "::ffff:10.0.0.5") && !has("!10.0.0.5", "::ffff:10.0.0.5"));
    }

    #[test]
    fn this_machine_is_local_in_both_families() {
        let has_local = |list: &str| Addresses::parse(list).unwrap().has_local();
        for list in ["127.0.0.1", "::1", "127.*", "127.0.0.0/8", "localhost", "*", "!10.0.0.1"] {
            assert!(has_local(list), "{list}");
        }
        for list in ["10.0.0.1", "*,!127.0.0.1", "*,!::1", "!localhost"] {
            assert!(!has_local(list), "{list}");
        }
        assert!(has("localhost", "127.0.0.1") && has("localhost", "::1") && !has("localhost", "10.0.0.1"));
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        let refused = |list: &str| Addresses::parse(list).unwrap_err();
        assert_eq!(refused(" , "), "names nobody; `*` is everyone");
        assert_eq!(refused("10.0.0.0/33"), "has `10.0.0.0/33`, which is no network");
        assert!(refused("10.0.0.1,brick-1.example").starts_with("has `brick-1.example`, which is neither"));
        assert!(refused("*.example.com").ends_with("host names are not looked up"));
        assert!(refused("/dir(10.0.0.1|10.0.0.2)").contains("for a subdirectory"));
        assert!(refused("!").starts_with("has ``"));
    }

    #[test]
    fn many_stars_take_no_time_worth_speaking_of() {
        assert!(has("*:*1*f", "1:1:1:1:1:1:1:f"));
        assert!(!has(&format!("{}e", "*1*:".repeat(8)), "1:1:1:1:1:1:1:f"));
        assert!(!has(&format!("{}e:", "*".repeat(4_000)), "1111:1111:1111:1111:1111:1111:1111:ffff"));
    }

    #[test]
    fn stars_overlap_with_nothing() {
        assert!(fits("a*b*c", "abc") && fits("a*b*c", "aXbYbZc") && fits("*", "") && fits("ab", "ab"));
        assert!(!fits("ab*ba", "aba") && !fits("a*b*c", "acb") && !fits("ab", "abc") && !fits("", "a"));
    }
}
