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
