//! Addresses and networks, with the names that Kubernetes' CEL has for them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cel::common::types::Type;
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use super::{Called, Own, failed, global, int, member, number, string, text, truth, wrong};

static IP: Type = Type::new_unspecified_type("net.IP");
static CIDR: Type = Type::new_unspecified_type("net.CIDR");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::expr) struct Ip(pub(in crate::expr) IpAddr);

/// An address, which may have bits beyond the prefix, and how many of its bits name the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::expr) struct Cidr(IpAddr, u32);

macro_rules! value {
    ($name:ident, $kind:ident) => {
        impl Val for $name {
            fn get_type(&self) -> &Type {
                &$kind
            }

            fn cel_type() -> &'static Type {
                &$kind
            }

            fn equals(&self, other: &dyn Val) -> bool {
                other.downcast_ref::<$name>().is_some_and(|other| other == self)
            }

            fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
                Box::new(*self)
            }

            fn as_any(&self) -> Option<&dyn std::any::Any> {
                Some(self)
            }
        }

        impl StaticVal for $name {}
    };
}

value!(Ip, IP);
value!(Cidr, CIDR);

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

impl Cidr {
    fn contains(self, ip: IpAddr) -> bool {
        self.0.is_ipv4() == ip.is_ipv4() && masked(ip, self.1) == masked(self.0, self.1)
    }
}

pub(super) const FUNCTIONS: &[Own] = &[
    global("ip", &[1], ip),
    global("isIP", &[1], is_ip),
    global("ip.isCanonical", &[1], is_canonical),
    member("family", &[1], family),
    member("isPrivate", &[1], is_private),
    member("isLoopback", &[1], is_loopback),
    member("isUnspecified", &[1], is_unspecified),
    member("isLinkLocalUnicast", &[1], is_link_local_unicast),
    member("isLinkLocalMulticast", &[1], is_link_local_multicast),
    member("isGlobalUnicast", &[1], is_global_unicast),
    member("mask", &[2], mask),
    global("cidr", &[1], cidr),
    global("isCIDR", &[1], is_cidr),
    member("containsIP", &[2], contains_ip),
    member("containsCIDR", &[2], contains_cidr),
    member("ip", &[1], ip_of),
    member("masked", &[1], masked_of),
    member("prefixLength", &[1], prefix_length),
];

pub(super) fn typed(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload("string", "own string ip", vec![IP.to_owned()], to_text)?;
    env.add_overload("string", "own string cidr", vec![CIDR.to_owned()], to_text)
}

/// Texts longer than any address are none, and are looked at no further.
const TEXT_BYTES_MAX: usize = 64;

/// Without a zone; an IPv4 address written as one of IPv6 is refused, since it would be two.
fn read_ip(text: &str) -> Option<IpAddr> {
    let ip: IpAddr =
        text.get(..TEXT_BYTES_MAX.min(text.len()))?.parse().ok().filter(|_| text.len() <= TEXT_BYTES_MAX)?;
    match ip {
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => None,
        ip => Some(ip),
    }
}

fn read_cidr(text: &str) -> Option<Cidr> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let (ip, bits) = text.split_once('/')?;
    let ip = read_ip(ip)?;
    let plain = bits.bytes().all(|byte| byte.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let bits = bits.parse().ok().filter(|bits| plain && *bits <= bits_max(ip))?;
    Some(Cidr(ip, bits))
}

fn bits_max(ip: IpAddr) -> u32 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// The first `bits` of it, zeros after them.
fn masked(ip: IpAddr, bits: u32) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & u32::MAX.checked_shl(32 - bits).unwrap_or(0))),
        IpAddr::V6(ip) => {
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & u128::MAX.checked_shl(128 - bits).unwrap_or(0)))
        }
    }
}

fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(40)]
}

fn of<'v>(function: &str, args: &[CowVal<'_, 'v>]) -> Result<IpAddr, ExecutionError> {
    args[0].as_ref().downcast_ref::<Ip>().map(|ip| ip.0).ok_or_else(|| wrong(function, args))
}

fn network(function: &str, args: &[CowVal<'_, '_>]) -> Result<Cidr, ExecutionError> {
    args[0].as_ref().downcast_ref::<Cidr>().copied().ok_or_else(|| wrong(function, args))
}

fn ip<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let text = text("ip", &args, 0)?;
    let ip = read_ip(text).ok_or_else(|| failed("ip", format!("`{}` is no IP address", shown(text))))?;
    Ok(CowVal::owned(Ip(ip)))
}

fn is_ip<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    Ok(truth(read_ip(text("isIP", &args, 0)?).is_some()))
}

fn is_canonical<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let name = "ip.isCanonical";
    let text = text(name, &args, 0)?;
    let ip = read_ip(text).ok_or_else(|| failed(name, format!("`{}` is no IP address", shown(text))))?;
    Ok(truth(ip.to_string() == text))
}

fn cidr<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let text = text("cidr", &args, 0)?;
    let made = read_cidr(text);
    let made = made.ok_or_else(|| failed("cidr", format!("`{}` is no network, such as 10.0.0.0/8", shown(text))))?;
    Ok(CowVal::owned(made))
}

fn is_cidr<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    Ok(truth(read_cidr(text("isCIDR", &args, 0)?).is_some()))
}

fn family<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    Ok(number(if of("family", &args)?.is_ipv4() { 4 } else { 6 }))
}

/// RFC 1918 and RFC 4193.
fn is_private<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    Ok(truth(match of("isPrivate", &args)? {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }))
}

fn is_loopback<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    Ok(truth(of("isLoopback", &args)?.is_loopback()))
}

fn is_unspecified<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    Ok(truth(of("isUnspecified", &args)?.is_unspecified()))
}

fn link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_link_local_unicast<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    Ok(truth(link_local(of("isLinkLocalUnicast", &args)?)))
}

fn is_link_local_multicast<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    Ok(truth(match of("isLinkLocalMulticast", &args)? {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    }))
}

/// As Go has it: whatever is none of the others, private ones too.
fn is_global_unicast<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let ip = of("isGlobalUnicast", &args)?;
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    Ok(truth(!broadcast && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !link_local(ip)))
}

fn mask<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let ip = of("mask", &args)?;
    let bits = u32::try_from(int("mask", &args, 1)?).ok().filter(|bits| *bits <= bits_max(ip));
    let bits = bits.ok_or_else(|| failed("mask", format!("this address has {} bits", bits_max(ip))))?;
    Ok(CowVal::owned(Ip(masked(ip, bits))))
}

/// An address as such, or as text.
fn contains_ip<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let name = "containsIP";
    let within = network(name, &args)?;
    if let Some(ip) = args[1].as_ref().downcast_ref::<Ip>() {
        return Ok(truth(within.contains(ip.0)));
    }
    let text = text(name, &args, 1)?;
    let ip = read_ip(text).ok_or_else(|| failed(name, format!("`{}` is no IP address", shown(text))))?;
    Ok(truth(within.contains(ip)))
}

fn contains_cidr<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let name = "containsCIDR";
    let within = network(name, &args)?;
    let other = match args[1].as_ref().downcast_ref::<Cidr>() {
        Some(other) => *other,
        None => {
            let text = text(name, &args, 1)?;
            read_cidr(text).ok_or_else(|| failed(name, format!("`{}` is no network", shown(text))))?
        }
    };
    Ok(truth(other.1 >= within.1 && within.contains(other.0)))
}

fn ip_of<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    Ok(CowVal::owned(Ip(network("ip", &args)?.0)))
}

fn masked_of<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    let Cidr(ip, bits) = network("masked", &args)?;
    Ok(CowVal::owned(Cidr(masked(ip, bits), bits)))
}

fn prefix_length<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    Ok(number(network("prefixLength", &args)?.1.into()))
}

fn to_text<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Called<'b, 'v> {
    match args[0].as_ref().downcast_ref::<Cidr>() {
        Some(cidr) => Ok(string(cidr.to_string())),
        None => Ok(string(of("string", &args)?.to_string())),
    }
}
