use keepsake_shared::{
    AttachmentId, EntityId, EntityType, IdError, TenantId, id::RESERVED_ENTITY_TYPES,
};
use proptest::prelude::*;

#[test]
fn tenant_and_entity_ids() {
    for id in ["a", "Z", "0", "_", "-", "acme", "A-1_b", &"x".repeat(64)] {
        assert_eq!(id.parse::<TenantId>().unwrap().as_str(), id);
        assert_eq!(id.parse::<EntityId>().unwrap().to_string(), id);
    }
    for (id, error) in [
        ("", IdError::Empty),
        (&"x".repeat(65), IdError::TooLong(64)),
        ("a/b", IdError::Character),
        ("..", IdError::Character),
        ("a b", IdError::Character),
        ("a\0", IdError::Character),
        ("a\n", IdError::Character),
        ("é", IdError::Character),
        ("а", IdError::Character), // Cyrillic
        ("١", IdError::Character), // an Arabic digit
    ] {
        assert_eq!(id.parse::<TenantId>(), Err(error), "{id:?}");
        assert_eq!(id.parse::<EntityId>(), Err(error), "{id:?}");
    }
}

#[test]
fn entity_types() {
    for name in ["post", "p", "blog_post2", &format!("a{}", "b".repeat(62))] {
        assert_eq!(name.parse::<EntityType>().unwrap().as_str(), name);
    }
    for (name, error) in [
        ("", IdError::Empty),
        (&*"a".repeat(64), IdError::TooLong(63)),
        ("Post", IdError::EntityTypeCharacter),
        ("1post", IdError::EntityTypeCharacter),
        ("_post", IdError::EntityTypeCharacter),
        ("blog-post", IdError::EntityTypeCharacter),
        ("post\n", IdError::EntityTypeCharacter),
        ("é", IdError::EntityTypeCharacter),
    ] {
        assert_eq!(name.parse::<EntityType>(), Err(error), "{name:?}");
    }
    for word in RESERVED_ENTITY_TYPES {
        assert_eq!(word.parse::<EntityType>(), Err(IdError::Reserved));
    }
    // Names that every object has in some languages are nothing special.
    assert!("constructor".parse::<EntityType>().is_ok());
}

#[test]
fn uuid_ids_have_one_form() {
    let text = "0198f7d0-1111-7aaa-8bbb-000000000001";
    assert_eq!(text.parse::<AttachmentId>().unwrap().to_string(), text);
    assert_eq!(
        text.to_uppercase()
            .parse::<AttachmentId>()
            .unwrap()
            .to_string(),
        text
    );
    for wrong in [
        "",
        "0198f7d011117aaa8bbb000000000001",
        "{0198f7d0-1111-7aaa-8bbb-000000000001}",
        "urn:uuid:0198f7d0-1111-7aaa-8bbb-000000000001",
        "0198f7d0-1111-7aaa-8bbb-00000000000g",
        "0198f7d0-1111-7aaa-8bbb-000000000001 ",
        "0198f7d0+1111-7aaa-8bbb-000000000001",
    ] {
        assert_eq!(
            wrong.parse::<AttachmentId>(),
            Err(IdError::NotUuid),
            "{wrong}"
        );
    }
}

#[test]
fn json_is_checked_too() {
    let id: TenantId = serde_json::from_str("\"acme\"").unwrap();
    assert_eq!(serde_json::to_string(&id).unwrap(), "\"acme\"");
    assert!(serde_json::from_str::<TenantId>("\"a/b\"").is_err());
    assert!(serde_json::from_str::<TenantId>("1").is_err());
}

proptest! {
    #[test]
    fn what_is_taken_is_what_is_shown(text in any::<String>()) {
        if let Ok(id) = text.parse::<TenantId>() { prop_assert_eq!(id.as_str(), &text); }
        if let Ok(id) = text.parse::<EntityType>() { prop_assert_eq!(id.as_str(), &text); }
        if let Ok(id) = text.parse::<AttachmentId>() {
            prop_assert_eq!(id.to_string(), text.to_lowercase());
        }
    }

    #[test]
    fn every_id_of_the_form_is_taken(id in "[A-Za-z0-9_-]{1,64}") {
        prop_assert!(id.parse::<EntityId>().is_ok());
    }

    #[test]
    fn every_uuid_is_taken(bits in any::<u128>()) {
        let id = AttachmentId(uuid::Uuid::from_u128(bits));
        prop_assert_eq!(id.to_string().parse::<AttachmentId>(), Ok(id));
    }
}
