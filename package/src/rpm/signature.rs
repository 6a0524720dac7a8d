//! Who signed: the issuer in an OpenPGP signature (RFC 4880, sections 4.2, 5.2; RFC 9580, 5.2.3.35).

use super::header::Header;
use super::hex;

/// Tags of the signature header that hold one signature: RSA and DSA over the header, then, older,
/// PGP, GPG and PGP 5 over header and payload.
const BINARY: [u32; 5] = [268, 267, 1002, 1005, 1006];
/// A list of signatures in base64, new in rpm 6.
const OPENPGP: u32 = 278;

/// Key id or fingerprint of the issuer of the first signature, in lower-case hex.
///
/// A signature without a readable issuer is one too: it gives `unknown`.
pub(super) fn signer(signature: &Header) -> Option<String> {
    let list = signature.strings(OPENPGP).next().map(|text| issuer(&base64(text)));
    let single = || BINARY.iter().find_map(|tag| signature.binary(*tag)).map(issuer);
    list.or_else(single).map(|issuer| issuer.unwrap_or_else(|| "unknown".to_string()))
}

/// Key id or fingerprint, in lower-case hex, of whoever a signature packet says that it is of.
pub fn issuer(packet: &[u8]) -> Option<String> {
    let body = body(packet)?;
    match body.first()? {
        3 => body.get(7..15).map(hex),
        4 => {
            let (hashed, rest) = counted(body.get(4..)?, 2)?;
            in_subpackets([hashed, counted(rest, 2)?.0])
        }
        6 => {
            let (hashed, rest) = counted(body.get(4..)?, 4)?;
            in_subpackets([hashed, counted(rest, 4)?.0])
        }
        _ => None,
    }
}

/// The body of a signature packet, which is of type 2.
fn body(packet: &[u8]) -> Option<&[u8]> {
    let (first, rest) = packet.split_first()?;
    if first & 0x80 == 0 {
        return None;
    }
    if first & 0x40 != 0 {
        return if first & 0x3f == 2 { new_length(rest).map(|(body, _)| body) } else { None };
    }
    if first >> 2 & 0xf != 2 {
        return None;
    }
    match first & 3 {
        0 => counted(rest, 1).map(|(body, _)| body),
        1 => counted(rest, 2).map(|(body, _)| body),
        2 => counted(rest, 4).map(|(body, _)| body),
        _ => Some(rest),
    }
}

/// The fingerprint if there is one, else the key id.
fn in_subpackets(areas: [&[u8]; 2]) -> Option<String> {
    let mut key_id = None;
    for mut area in areas {
        while let Some((subpacket, rest)) = new_length(area) {
            area = rest;
            match subpacket.split_first() {
                // The first byte of a fingerprint is the key's version.
                Some((kind, value)) if kind & 0x7f == 33 && value.len() > 1 => return value.get(1..).map(hex),
                Some((kind, value)) if kind & 0x7f == 16 && value.len() == 8 => key_id = Some(hex(value)),
                _ => {}
            }
        }
    }
    key_id
}

/// What a big-endian number of `width` bytes counts, and what is behind it.
fn counted(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let (number, rest) = bytes.split_at_checked(width)?;
    rest.split_at_checked(number.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

/// The same for the lengths of new packets and of subpackets.
fn new_length(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    match first {
        0..192 => counted(bytes, 1),
        192..224 => {
            let (second, rest) = rest.split_first()?;
            rest.split_at_checked((usize::from(*first) - 192) * 256 + usize::from(*second) + 192)
        }
        255 => counted(rest, 4),
        // A body in parts: no signature has one.
        _ => None,
    }
}

/// What can be decoded of base64; padding and all else is passed over.
pub fn base64(text: &[u8]) -> Vec<u8> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.extend((bits >> count).to_be_bytes().last());
        }
    }
    bytes
}
