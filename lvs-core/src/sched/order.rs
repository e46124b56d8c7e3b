//! What schedulers share: the walk through servers, the comparison of loads, the hashes of IPVS.

use core::net::IpAddr;

use crate::model::flow::Family;
use crate::model::id::ServerId;
use crate::model::server::Server;

/// The chain of servers that starts at `from`.
pub(crate) fn walk(servers: &[Server], from: Option<ServerId>) -> impl Iterator<Item = (ServerId, &Server)> {
    let mut next = from;
    core::iter::from_fn(move || {
        let id = next?;
        let server = servers.get(id.0 as usize)?;
        next = server.next;
        Some((id, server))
    })
}

/// Whether a server with `load` and weight `weight` is less loaded per weight than the best so far.
pub(crate) fn lighter(load: i32, weight: u32, best_load: i32, best_weight: u32) -> bool {
    // Multiplied crosswise, as IPVS does it: a division would round servers of near loads to equal ones.
    i64::from(best_load) * i64::from(weight) > i64::from(load) * i64::from(best_weight)
}

/// An address as 32 bits: an IPv6 one is the exclusive or of its four words.
pub(crate) fn fold(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
        }
    }
}

/// An address as 32 bits in a service of this family: IPVS reads an IPv6 address in an IPv4 service (of a server
/// behind a tunnel) by its first word alone.
pub(crate) fn fold_as(family: Family, address: IpAddr) -> u32 {
    match (family, address) {
        (Family::V4, IpAddr::V6(address)) => (address.to_bits() >> 96) as u32,
        (Family::V4, IpAddr::V4(_)) | (Family::V6, _) => fold(address),
    }
}

/// IPVS's multiplicative hash of 32 bits to 8.
pub(crate) fn hash8(value: u32) -> usize {
    (value.wrapping_mul(0x61c8_8647) >> 24) as usize
}
