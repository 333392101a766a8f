//! Which network interface a connection goes over: the one that has its address.

use std::net::IpAddr;

/// The interface with this address; `None` if it is gone.
pub(super) fn of_address(address: IpAddr) -> Option<String> {
    let interfaces = if_addrs::get_if_addrs().ok()?;
    interfaces.into_iter().find(|interface| interface.ip() == address).map(|interface| interface.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_own_and_nobodys_address_none() {
        assert_eq!(of_address("127.0.0.1".parse().unwrap()).as_deref(), Some("lo"));
        assert_eq!(of_address("192.0.2.7".parse().unwrap()), None);
    }
}
