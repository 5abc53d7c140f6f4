//! Blocks of addresses.

use std::net::IpAddr;

use ipnet::IpNet;

/// Address blocks, without overlap and in order, so that a look-up is a binary search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// # Errors
    /// Which text is none, and what was expected.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let parse = |text: &String| match text.parse::<IpNet>() {
            Ok(network) => Ok(network),
            Err(_) => text.parse::<IpAddr>().map(IpNet::from).map_err(|_| {
                format!("`{text}`: expected an address or a block such as `10.0.0.0/8` or `2001:db8::/32`")
            }),
        };
        let mut networks = IpNet::aggregate(&texts.iter().map(parse).collect::<Result<_, _>>()?);
        networks.sort_unstable();
        Ok(Self(networks))
    }

    pub fn contain(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        let after = self.0.partition_point(|network| network.network() <= client);
        after.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|network| network.contains(&client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The binary search finds what trying each block finds.
        #[test]
        fn networks_agree_with_trying_each(
            blocks in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..20), clients in prop::collection::vec(any::<u32>(), 20),
        ) {
            let texts: Vec<String> = blocks.iter().map(|(a, n)| format!("{}/{n}", std::net::Ipv4Addr::from(*a))).collect();
            let each: Vec<IpNet> = texts.iter().map(|text| text.parse().expect("a block")).collect();
            let networks = Networks::parse(&texts).expect("blocks");
            for client in clients.iter().chain(blocks.iter().map(|(address, _)| address)) {
                let client = IpAddr::from(client.to_be_bytes());
                prop_assert_eq!(networks.contain(client), each.iter().any(|block| block.contains(&client)));
            }
        }
    }
}
