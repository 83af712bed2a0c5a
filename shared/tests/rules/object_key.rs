use keepsake_shared::{
    AttachmentId, EntityId, EntityType, IdError, ObjectKey, ObjectKeyError, TenantId,
    sigv4::{Bucket, Endpoint, percent_encode},
};
use proptest::prelude::*;
use uuid::Uuid;

const KEY: &str = "t/acme/post/42/0198f7d0-1111-7aaa-8bbb-000000000001.png";

#[test]
fn a_key_is_made_and_read() {
    let id = "0198f7d0-1111-7aaa-8bbb-000000000001".parse().unwrap();
    let (tenant, entity) = ("acme".parse().unwrap(), "post".parse().unwrap());
    let key = ObjectKey::new(&tenant, &entity, &"42".parse().unwrap(), id, "png").unwrap();
    assert_eq!(key.as_str(), KEY);
    assert_eq!(ObjectKey::parse(KEY), Ok(key.clone()));
    assert_eq!(key.tenant(), &tenant);
    assert_eq!(key.entity_type(), &entity);
    assert_eq!(key.entity_id().as_str(), "42");
    assert_eq!(key.attachment_id(), id);
    assert_eq!(key.extension(), "png");
}

#[test]
fn malformed_keys() {
    use ObjectKeyError::{AttachmentId, EntityId, EntityType, Extension, Form, Tenant};
    let id = "0198f7d0-1111-7aaa-8bbb-000000000001";
    for (key, error) in [
        (String::new(), Form),
        (format!("/{KEY}"), Form),
        (format!("{KEY}/"), Form),
        (format!("u/acme/post/42/{id}.png"), Form),
        (format!("t/acme/post/{id}.png"), Form),
        (format!("t/acme/post/42/{id}"), Form),
        (format!("t//post/42/{id}.png"), Tenant(IdError::Empty)),
        (format!("t/../post/42/{id}.png"), Tenant(IdError::Character)),
        (
            format!("t/acme/Post/42/{id}.png"),
            EntityType(IdError::EntityTypeCharacter),
        ),
        (
            format!("t/acme/uploads/42/{id}.png"),
            EntityType(IdError::Reserved),
        ),
        (
            format!("t/acme/post/4 2/{id}.png"),
            EntityId(IdError::Character),
        ),
        (
            format!("t/acme/post/42/{}.png", id.to_uppercase()),
            AttachmentId,
        ),
        (
            "t/acme/post/42/0198f7d0-1111-4aaa-8bbb-000000000001.png".into(),
            AttachmentId,
        ),
        (
            "t/acme/post/42/0198f7d0-1111-7aaa-0bbb-000000000001.png".into(),
            AttachmentId,
        ),
        ("t/acme/post/42/x.png".into(), AttachmentId),
        (format!("t/acme/post/42/{id}."), Extension),
        (format!("t/acme/post/42/{id}.PNG"), Extension),
        (format!("t/acme/post/42/{id}.tar.gz"), Extension),
        (format!("t/acme/post/42/{id}.elevenchars"), Extension),
        (format!("{KEY}\n"), Extension),
    ] {
        assert_eq!(ObjectKey::parse(&key), Err(error), "{key}");
    }
}

fn version_7() -> impl Strategy<Value = AttachmentId> {
    any::<u128>().prop_map(|bits| {
        let bits = bits & !(0xf << 76) | 7 << 76;
        AttachmentId(Uuid::from_u128(bits & !(0b11 << 62) | 0b10 << 62))
    })
}

proptest! {
    #[test]
    fn every_key_is_read_again(
        tenant in "[A-Za-z0-9_-]{1,64}", entity in "[a-z][a-z0-9_]{0,62}", id in "[A-Za-z0-9_-]{1,64}",
        attachment in version_7(), extension in "[a-z0-9]{1,10}",
    ) {
        prop_assume!(entity.parse::<EntityType>().is_ok());
        let (tenant, entity, id): (TenantId, EntityType, EntityId) =
            (tenant.parse().unwrap(), entity.parse().unwrap(), id.parse().unwrap());
        let key = ObjectKey::new(&tenant, &entity, &id, attachment, &extension).unwrap();
        prop_assert_eq!(ObjectKey::parse(key.as_str()), Ok(key.clone()));
        // It can be signed, and stands in a URL as it is.
        let endpoint = Endpoint::parse("https://store.example").unwrap();
        let bucket = Bucket::path_style(endpoint, "bucket").unwrap();
        prop_assert!(bucket.object(key.as_str()).is_ok());
        prop_assert_eq!(percent_encode(key.as_str()).replace("%2F", "/"), key.as_str());
        prop_assert!(key.as_str().len() <= 243);
    }

    #[test]
    fn a_key_has_one_spelling(key in any::<String>()) {
        if let Ok(parsed) = ObjectKey::parse(&key) { prop_assert_eq!(parsed.as_str(), key); }
    }

    #[test]
    fn a_bent_key_is_refused_or_shown_as_it_is(place in 0..KEY.len(), with in any::<char>()) {
        let mut bent = KEY.to_owned();
        bent.replace_range(place..=place, with.encode_utf8(&mut [0; 4]));
        if let Ok(parsed) = ObjectKey::parse(&bent) { prop_assert_eq!(parsed.as_str(), bent); }
    }
}
