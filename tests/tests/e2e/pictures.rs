//! A picture is bounded by the size it says it has, wherever in the file it says it.

use anyhow::Result;
use keepsake_tests::fixtures::{Fixture, PNG};
use keepsake_tests::requires;

use crate::world::{Tenant, errors, shared_s3_stack, tenant};

fn png_of(width: u32, height: u32) -> Fixture {
    let mut bytes = PNG.bytes.to_vec();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    Fixture {
        bytes: bytes.leak(),
        ..PNG
    }
}

/// A TIFF of 300 KiB whose directory stands at `at`, if it is that long.
fn tiff_with_directory_at(at: u32) -> Fixture {
    let mut bytes = b"II*\0".to_vec();
    bytes.extend_from_slice(&at.to_le_bytes());
    bytes.resize(300 << 10, 0);
    bytes.extend_from_slice(&[2, 0]);
    for (tag, side) in [(256_u16, 1000_u32), (257, 2000)] {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&[4, 0, 1, 0, 0, 0]);
        bytes.extend_from_slice(&side.to_le_bytes());
    }
    Fixture {
        name: "scan.tif",
        media_type: "image/tiff",
        bytes: bytes.leak(),
    }
}

async fn look_at(tenant: Tenant<'_>) -> Result<()> {
    for (file, code) in [
        (png_of(16_384, 16_385), "image_too_large"),
        (png_of(65_536, 65_536), "image_too_large"),
        (tiff_with_directory_at(0x00FF_FFFF), "image_unreadable"),
        (tiff_with_directory_at(0xFFFF_FFFF), "image_unreadable"),
    ] {
        let upload = tenant.store(&[file]).await?;
        let refused = tenant.complete(&upload).await?;
        let problem = refused.expect_problem(422, "upload_rejected")?;
        assert_eq!(errors(&problem), [("/files/0", code)]);
        assert_eq!(tenant.rows().await?, 0);
    }
    tenant.upload_one(tiff_with_directory_at(300 << 10)).await?;
    tenant.upload_one(png_of(16_384, 16_384)).await?;
    Ok(())
}

#[tokio::test]
async fn in_the_bucket() -> Result<()> {
    look_at(tenant().await?).await
}

#[tokio::test]
async fn in_an_s3_store() -> Result<()> {
    requires!(S3);
    let (stack, _) = shared_s3_stack().await?;
    look_at(Tenant::new(stack).await?).await
}
