//! Where a request comes from: its address, through the proxies that are trusted, and its program.
//!
//! Both are personal data of whoever acts: they go sealed into the metadata of events, and into no log.

use axum::http::{HeaderMap, header};
use ipnet::IpNet;
use serde::Deserialize;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Addresses in an X-Forwarded-For that are looked at, from the end.
const HOPS_MAX: usize = 32;
/// Characters of a user agent that are kept.
const USER_AGENT_CHARS_MAX: usize = 512;

/// A request's place of origin, as data for resolvers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    pub ip: Option<IpAddr>,
    /// At most 512 characters.
    pub user_agent: Option<String>,
}

/// An address or a network of addresses, e.g. `10.0.0.7` or `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(IpNet);

/// It is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no address and no network: write it like 10.0.0.7 or 10.0.0.0/8")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let text = text.trim();
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(Network).map_err(|_| NetworkError)
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Caller {
    /// `peer`: the other end of the connection. Its word about others counts only when it is trusted.
    pub(crate) fn of(headers: &HeaderMap, peer: Option<IpAddr>, trusted: &[Network]) -> Self {
        let ip = peer.map(|peer| client(headers, peer.to_canonical(), trusted));
        let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let user_agent = agent
            .map(|text| text.chars().filter(|c| !c.is_control()).take(USER_AGENT_CHARS_MAX).collect::<String>())
            .filter(|text| !text.is_empty());
        Caller { ip, user_agent }
    }
}

/// The last address in the chain that no trusted proxy has: everything before it may be made up.
fn client(headers: &HeaderMap, peer: IpAddr, trusted: &[Network]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|network| network.0.contains(ip));
    if !is_trusted(&peer) {
        return peer;
    }
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let told = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(',').map(str::trim)).take(HOPS_MAX);
    let mut last = peer;
    for text in told {
        let Ok(ip) = text.parse::<IpAddr>() else { break };
        last = ip.to_canonical();
        if !is_trusted(&last) {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip_of(forwarded: &[&str], peer: &str, trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let trusted: Vec<Network> = trusted.iter().map(|t| t.parse().unwrap()).collect();
        Caller::of(&headers, Some(peer.parse().unwrap()), &trusted).ip.unwrap().to_string()
    }

    #[test]
    fn a_stranger_is_not_believed_about_its_address() {
        assert_eq!(ip_of(&["1.2.3.4"], "203.0.113.9", &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(ip_of(&["1.2.3.4"], "203.0.113.9", &[]), "203.0.113.9");
    }

    #[test]
    fn behind_trusted_proxies_the_last_stranger_counts() {
        let proxies = ["10.0.0.0/8", "::1"];
        assert_eq!(ip_of(&["6.6.6.6, 198.51.100.7, 10.1.1.1"], "10.0.0.1", &proxies), "198.51.100.7");
        assert_eq!(ip_of(&["6.6.6.6", "198.51.100.7,10.1.1.1"], "::1", &proxies), "198.51.100.7");
        assert_eq!(ip_of(&[], "10.0.0.1", &proxies), "10.0.0.1");
        // What cannot be read ends the chain at the last thing that could.
        assert_eq!(ip_of(&["198.51.100.7, junk, 10.1.1.1"], "10.0.0.1", &proxies), "10.1.1.1");
        assert_eq!(ip_of(&["198.51.100.7"], "::ffff:10.0.0.1", &proxies), "198.51.100.7");
    }

    #[test]
    fn a_user_agent_is_cut_and_cleaned() {
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", format!("curl\t{}", "x".repeat(600)).parse().unwrap());
        let agent = Caller::of(&headers, None, &[]).user_agent.unwrap();
        assert!(agent.starts_with("curlxx") && agent.chars().count() == 512, "{agent}");
    }

    #[test]
    fn a_network_that_is_none_is_refused() {
        for text in ["", "10.0.0.0/33", "example.com", "10.0.0"] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError), "{text}");
        }
    }
}
