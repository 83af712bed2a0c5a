//! Listings and their pages.

use anyhow::{Context as _, Result};
use keepsake_shared::FileName;
use keepsake_tests::api::{Api, declaration, text};
use keepsake_tests::fixtures::{CSV, DOCX, Fixture, PDF, PNG, TEXT};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Tenant, expect_nothing, items, names, own_stack, tenant};

/// The names that a listing with this query finds, sorted.
async fn found(api: &Api, query: &str) -> Result<Vec<String>> {
    let page = api
        .get(&format!("/v1/attachments?{query}"))
        .await?
        .json_if(200)?;
    Ok(names(items(&page)).into_iter().map(str::to_owned).collect())
}

#[tokio::test]
async fn pages_hold_everything_once() -> Result<()> {
    let tenant = tenant().await?;
    tenant.upload(&[PNG, PDF, TEXT]).await?;
    tenant.upload(&[CSV, DOCX]).await?;
    let whole = tenant.attachments().await?;

    for base in [
        format!("{}/attachments?limit=2", tenant.post_path()),
        "/v1/attachments?limit=2".to_owned(),
    ] {
        let mut seen: Vec<Value> = Vec::new();
        let mut path = base.clone();
        for _ in 0..3 {
            let page = tenant.api.get(&path).await?.json_if(200)?;
            seen.extend_from_slice(items(&page));
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("{base}&cursor={cursor}"),
                None => break,
            }
        }
        assert_eq!(seen, whole, "{base}");
    }
    Ok(())
}

#[tokio::test]
async fn the_bin_shows_what_was_deleted() -> Result<()> {
    let tenant = tenant().await?;
    let attachments = tenant.upload(&[PNG, TEXT]).await?;
    tenant
        .delete_attachment(&attachments[0])
        .await?
        .expect(204)?;

    let live = tenant.api.get("/v1/attachments").await?.json_if(200)?;
    assert_eq!(names(items(&live)), [TEXT.name]);
    let bin = tenant
        .api
        .get("/v1/attachments?state=deleted")
        .await?
        .json_if(200)?;
    let bin = items(&bin);
    assert_eq!(names(bin), [PNG.name]);
    assert!(bin[0]["deleted_at"].is_string());
    Ok(())
}

#[tokio::test]
async fn what_is_not_complete_is_in_no_list() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PNG]).await?;
    for path in ["/v1/attachments", "/v1/attachments?state=deleted"] {
        let page = tenant.api.get(path).await?.json_if(200)?;
        assert_eq!(page["items"], Value::Array(Vec::new()), "{path}");
    }
    let pending = text(&upload, "/files/0/attachment_id")?;
    let path = format!("/v1/attachments/{pending}");
    let content = format!("{path}/content");
    expect_nothing(
        &tenant.api,
        &[
            (Method::GET, &path),
            (Method::GET, &content),
            (Method::DELETE, &path),
        ],
    )
    .await
}

#[tokio::test]
async fn the_worker_spells_names_as_the_extension_does() -> Result<()> {
    let tenant = tenant().await?;
    let names = [
        "e\u{301}t\u{e9}.png",
        "\u{1112}\u{1161}\u{11ab}.png",
        "\u{212b}\u{2126}.png",
        "\u{958}\u{9dc}\u{fb2a}.png",
        "a\u{307}\u{323}q\u{323}\u{307}.png",
        "\u{1d15e}\u{2f800}\u{f900}.png",
        "\u{ac00}\u{11a8}\u{1100}\u{ac00}.png",
    ];
    for name in names {
        let mut file = declaration(&PNG);
        file["name"] = json!(name);
        let request = tenant.request(json!([file]));
        let upload = tenant
            .api
            .post("/v1/uploads", &request)
            .await?
            .json_if(201)?;
        let natively = FileName::parse(name)?;
        assert_eq!(upload["files"][0]["name"], natively.as_str(), "{name:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_cursor_goes_on_with_its_own_listing_alone() -> Result<()> {
    let tenant = tenant().await?;
    tenant.upload(&[PNG, PDF, TEXT]).await?;
    let page = tenant
        .api
        .get("/v1/attachments?limit=1")
        .await?
        .json_if(200)?;
    let cursor = text(&page, "/next_cursor")?;
    // The size of a page may change.
    let next = format!("/v1/attachments?limit=2&cursor={cursor}");
    let next = tenant.api.get(&next).await?.json_if(200)?;
    assert_eq!(items(&next).len(), 2);

    let stranger = crate::world::tenant().await?;
    let last = cursor.rsplit('.').next().context("no MAC")?;
    let (head, id) = cursor.split_once('.').context("no key id")?;
    let forged = [
        id.split('.').next().unwrap_or_default().to_owned(),
        format!("{head}.0198f7d0-1111-7aaa-8bbb-000000000001.{last}"),
        format!("{cursor}A"),
        format!("other.{id}"),
        cursor.replace(last, ""),
    ];
    for (api, path) in [
        (&stranger.api, format!("/v1/attachments?cursor={cursor}")),
        (
            &tenant.api,
            format!("/v1/attachments?state=deleted&cursor={cursor}"),
        ),
        (
            &tenant.api,
            format!("/v1/attachments?q=locket&cursor={cursor}"),
        ),
        (
            &tenant.api,
            format!("{}/attachments?cursor={cursor}", tenant.post_path()),
        ),
    ]
    .into_iter()
    .chain(forged.map(|cursor| (&tenant.api, format!("/v1/attachments?cursor={cursor}"))))
    {
        let refused = api.get(&path).await?;
        refused.expect_problem(400, "invalid_field").context(path)?;
    }
    Ok(())
}

#[tokio::test]
async fn listings_are_narrowed() -> Result<()> {
    let tenant = tenant().await?;
    tenant.upload(&[PNG, TEXT]).await?;
    let bob = tenant.user("bob");
    bob.upload(("thread", &tenant.thread), &[PDF]).await?;

    let of_thread = format!("entity_type=thread&entity_id={}", tenant.thread);
    for (query, want) in [
        ("uploader=bob", &[PDF.name] as &[&str]),
        ("uploader=nobody", &[]),
        (&of_thread, &[PDF.name]),
        ("media_type=image/png", &[PNG.name]),
        ("media_type=text/plain&uploader=ada", &[TEXT.name]),
        ("media_type=text/plain&uploader=bob", &[]),
        (
            "created_after=2026-01-01T00:00:00Z",
            &[PDF.name, PNG.name, TEXT.name],
        ),
        ("created_before=2026-01-01T00:00:00Z", &[]),
        ("created_after=2996-01-01T00:00:00Z", &[]),
        ("created_before=2996-01-01T00:00:00Z&q=notes", &[TEXT.name]),
    ] {
        assert_eq!(found(&tenant.api, query).await?, want, "{query}");
    }
    for query in [
        "entity_type=post",
        "entity_type=Post&entity_id=1",
        "media_type=image",
        "created_after=yesterday",
        "created_before=0000-01-01T00:00:00Z",
        "q=",
        "q=a%00",
    ] {
        let refused = tenant.api.get(&format!("/v1/attachments?{query}")).await?;
        refused
            .expect_problem(400, "invalid_field")
            .context(query)?;
    }
    Ok(())
}

#[tokio::test]
async fn names_are_found_by_their_words_in_any_script() -> Result<()> {
    const NAMES: [&str; 6] = [
        "Quarterly_Report-2024.final.txt",
        "Résumé Zoë.txt",
        "Отчёт за год.txt",
        "議事録.txt",
        "Straße 12.txt",
        "invoice 2231.txt",
    ];
    let tenant = tenant().await?;
    for name in NAMES {
        tenant.upload(&[Fixture { name, ..TEXT }]).await?;
    }
    for (q, want) in [
        ("report", NAMES[0]),
        ("REPORT quart", NAMES[0]),
        // One typing error in a long word.
        ("quartely", NAMES[0]),
        ("qarterly 2024", NAMES[0]),
        ("resume", NAMES[1]),
        ("ZOE\u{308}", NAMES[1]),
        ("отчет", NAMES[2]),
        ("ОТЧ", NAMES[2]),
        ("議事", NAMES[3]),
        ("straße", NAMES[4]),
        ("2231", NAMES[5]),
    ] {
        let q: String = q.bytes().map(|byte| format!("%{byte:02x}")).collect();
        assert_eq!(found(&tenant.api, &format!("q={q}")).await?, [want], "{q}");
    }
    for q in [
        "port",
        "2213",
        "report+resume",
        "repo+x",
        "%25",
        "'",
        "%5c",
        "--",
        "%e3%80%85",
    ] {
        let none: [&str; 0] = [];
        assert_eq!(found(&tenant.api, &format!("q={q}")).await?, none, "{q}");
    }
    assert_eq!(found(&tenant.api, "q=txt").await?.len(), NAMES.len());

    let stranger = crate::world::tenant().await?;
    assert!(found(&stranger.api, "q=report").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_bin_tells_how_long_there_is() -> Result<()> {
    let tenant = tenant().await?;
    tenant.upload(&[PNG]).await?;
    tenant.delete_post().await?.expect(204)?;
    let path = format!(
        "/v1/attachments?state=deleted&q=locket&entity_type=post&entity_id={}",
        tenant.post
    );
    let page = tenant.api.get(&path).await?.json_if(200)?;
    assert_eq!(names(items(&page)), [PNG.name]);
    assert_eq!(items(&page)[0]["days_left"], 30);
    assert!(items(&page)[0]["purge_after"].is_string());

    tenant.let_retention_run_out().await?;
    let page = tenant.api.get(&path).await?.json_if(200)?;
    assert_eq!(items(&page)[0]["days_left"], 0);
    Ok(())
}

#[tokio::test]
async fn a_url_from_before_is_listed_behind_the_attachments() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let attachment = tenant.upload_one(PNG).await?;
    let mut database = tenant.database().await?;
    sqlx::raw_sql(
        "ALTER TABLE public.post ADD COLUMN attachment_url text;
         SELECT attachments.show_legacy_url('post', 'attachment_url')",
    )
    .execute(&mut database)
    .await?;
    let path = format!("{}/attachments?limit=1", tenant.post_path());
    for (url, shown) in [
        (
            Some("https://old.example.com/files/plan.pdf?v=1"),
            Some("plan.pdf"),
        ),
        (Some("https://old.example.com"), Some("old.example.com")),
        (Some("javascript:alert(1)"), None),
        (Some(""), None),
        (None, None),
    ] {
        sqlx::query("UPDATE public.post SET attachment_url = $1")
            .bind(url)
            .execute(&mut database)
            .await?;
        let page = tenant.api.get(&path).await?.json_if(200)?;
        assert_eq!(items(&page)[0]["id"], attachment["id"]);
        let legacy = items(&page).get(1);
        assert_eq!(
            legacy.map(|item| &item["name"]),
            shown.map(|name| json!(name)).as_ref(),
            "{url:?}"
        );
        if let Some(item) = legacy {
            assert_eq!(
                (&item["content_url"], &item["legacy"]),
                (&json!(url), &json!(true))
            );
            assert_eq!(item["id"], Value::Null);
        }
    }
    for sql in [
        "ALTER TABLE public.post DROP COLUMN attachment_url",
        "SELECT attachments.show_legacy_url('post', NULL)",
    ] {
        sqlx::query(sql).execute(&mut database).await?;
        let page = tenant.api.get(&path).await?.json_if(200)?;
        assert_eq!(items(&page).len(), 1, "{sql}");
    }
    Ok(())
}
