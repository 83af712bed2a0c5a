//! Where the next page of a listing begins.
//!
//! A cursor is `<key id>.<id of the last entry>.<mac>`. The MAC is over the tenant and the whole listing, so
//! that a cursor goes on with the listing it came from and with no other, of no other tenant.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use keepsake_shared::KeyRing;
use serde_json::Value;

const DOMAIN: &[u8] = b"keepsake listing cursor, version 1\n";

/// A cursor behind `last` in this listing.
pub(crate) fn sign(keys: &KeyRing, tenant: &str, listing: &Value, last: &str) -> String {
    let key = keys.signing_key();
    let listing = of_listing(tenant, listing);
    let mac = key.sign(&signed_parts(key.id(), &listing, last));
    format!("{}.{last}.{}", key.id(), URL_SAFE_NO_PAD.encode(mac))
}

/// The entry that a cursor of this listing stands behind; `None` for anything else.
pub(crate) fn verify<'a>(
    keys: &KeyRing,
    tenant: &str,
    listing: &Value,
    cursor: &'a str,
) -> Option<&'a str> {
    let (key_id, rest) = cursor.split_once('.')?;
    let (last, mac) = rest.rsplit_once('.')?;
    let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
    let listing = of_listing(tenant, listing);
    let parts = signed_parts(key_id, &listing, last);
    keys.key(key_id)
        .filter(|key| key.verify(&parts, &mac))
        .map(|_| last)
}

/// The tenant, or nothing for an operator's listing, and what is listed, as one text. Fields stand in the order of
/// their names.
fn of_listing(tenant: &str, listing: &Value) -> String {
    format!("{tenant}\n{listing}")
}

/// No part but the listing holds a line break, and JSON text holds none: the parts can be told apart
/// in only one way.
fn signed_parts<'a>(key_id: &'a str, listing: &'a str, last: &'a str) -> [&'a [u8]; 6] {
    [
        DOMAIN,
        key_id.as_bytes(),
        b"\n",
        listing.as_bytes(),
        b"\n",
        last.as_bytes(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LAST: &str = "0198f7d0-1111-7aaa-8bbb-000000000001";

    fn keys() -> KeyRing {
        "new:bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU=,old:b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w="
            .parse()
            .unwrap()
    }

    #[test]
    fn goes_on_with_its_listing() {
        let listing = json!({ "q": "x", "state": "available" });
        let cursor = sign(&keys(), "acme", &listing, LAST);
        assert_eq!(verify(&keys(), "acme", &listing, &cursor), Some(LAST));
        let same = json!({ "state": "available", "q": "x" });
        assert_eq!(verify(&keys(), "acme", &same, &cursor), Some(LAST));
    }

    #[test]
    fn goes_on_with_no_other() {
        let listing = json!({ "q": "x", "state": "available" });
        let cursor = sign(&keys(), "acme", &listing, LAST);
        for (tenant, other) in [
            ("acme2", listing.clone()),
            ("", listing.clone()),
            ("acme", json!({})),
            ("acme", json!({ "q": "x" })),
            ("acme", json!({ "q": "x", "state": "deleted" })),
            ("acme", json!({ "q": "x\n", "state": "available" })),
            ("acme\n{\"q\":\"x\",\"state\":\"available\"}", json!({})),
        ] {
            assert_eq!(
                verify(&keys(), tenant, &other, &cursor),
                None,
                "{tenant} {other}"
            );
        }
    }

    #[test]
    fn no_byte_of_it_can_be_changed_added_or_left_out() {
        let listing = json!({});
        let cursor = sign(&keys(), "acme", &listing, LAST);
        let refused =
            |text: &str| assert_eq!(verify(&keys(), "acme", &listing, text), None, "{text}");
        for at in 0..cursor.len() {
            for byte in b"A.-_a0=" {
                let mut changed = cursor.clone().into_bytes();
                if changed[at] != *byte {
                    changed[at] = *byte;
                    refused(&String::from_utf8(changed).unwrap());
                }
            }
            refused(&cursor[..at]);
            refused(&cursor[at + 1..]);
            refused(&format!("{}{}", &cursor[..at], &cursor[at + 1..]));
            refused(&format!("{}A{}", &cursor[..at], &cursor[at..]));
        }
        for added in ["A", "=", ".", " "] {
            refused(&format!("{cursor}{added}"));
        }
        // By a key that is not in the ring, and by the other one under the first one's name.
        let other: KeyRing = "new:b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w="
            .parse()
            .unwrap();
        refused(&sign(&other, "acme", &listing, LAST));
    }
}
