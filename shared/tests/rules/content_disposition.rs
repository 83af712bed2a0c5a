use keepsake_shared::{FileName, content_disposition};
use proptest::prelude::*;

fn header(name: &str) -> String {
    content_disposition(&FileName::parse(name).unwrap(), false)
}

#[test]
fn headers() {
    assert_eq!(
        header("photo 1.jpg"),
        "attachment; filename=\"photo 1.jpg\"; filename*=UTF-8''photo%201.jpg"
    );
    assert_eq!(
        header("résumé.pdf"),
        "attachment; filename=\"r_sum_.pdf\"; filename*=UTF-8''r%C3%A9sum%C3%A9.pdf"
    );
    // RFC 8187's own example of a name: POUND SIGN and EURO SIGN.
    assert_eq!(
        header("£ and € rates"),
        "attachment; filename=\"_ and _ rates\"; filename*=UTF-8''%C2%A3%20and%20%E2%82%AC%20rates"
    );
    assert_eq!(
        header("a\";filename=b.exe"),
        "attachment; filename=\"a_;filename=b.exe\"; filename*=UTF-8''a%22%3Bfilename%3Db.exe"
    );
    assert_eq!(
        header("100%41'(*).txt"),
        "attachment; filename=\"100_41'(*).txt\"; filename*=UTF-8''100%2541%27%28%2A%29.txt"
    );
    let inline = content_disposition(&FileName::parse("a.pdf").unwrap(), true);
    assert_eq!(inline, "inline; filename=\"a.pdf\"; filename*=UTF-8''a.pdf");
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut rest = text.bytes();
    let mut bytes = Vec::new();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            u8::from_str_radix(core::str::from_utf8(&digits).unwrap(), 16).unwrap()
        } else {
            byte
        });
    }
    bytes
}

proptest! {
    #[test]
    fn a_header_has_one_form_and_gives_the_name_back(name in any::<String>(), inline in any::<bool>()) {
        let name = FileName::sanitize(&name);
        let header = content_disposition(&name, inline);
        prop_assert!(header.bytes().all(|byte| matches!(byte, b' '..=b'~')));

        let kind = if inline { "inline" } else { "attachment" };
        let rest = header.strip_prefix(&format!("{kind}; filename=\"")).unwrap();
        let (plain, exact) = rest.split_once("\"; filename*=UTF-8''").unwrap();
        prop_assert!(!plain.contains(['"', '\\', '%']));
        prop_assert_eq!(plain.chars().count(), name.as_str().chars().count());
        let attr_char = |c: char| c.is_ascii_alphanumeric() || "!#$&+-.^_`|~%".contains(c);
        prop_assert!(exact.chars().all(attr_char));
        prop_assert_eq!(percent_decode(exact), name.as_str().as_bytes());
    }
}
