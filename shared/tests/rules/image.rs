//! How large a picture says it is.

use keepsake_shared::{
    MediaType,
    image::{HEAD_BYTES, Look, look, pixels_at},
};
use proptest::prelude::*;

/// A head of each kind, of three by two pixels but for one.
const SAMPLES: [(&str, &[u8], u64); 8] = [
    ("png", include_bytes!("../heads/sample.png"), 6),
    ("gif", include_bytes!("../heads/sample.gif"), 6),
    ("jpg", include_bytes!("../heads/sample.jpg"), 6),
    ("bmp", include_bytes!("../heads/sample.bmp"), 6),
    ("webp", include_bytes!("../heads/sample.webp"), 6),
    ("tif", include_bytes!("../heads/sample.tif"), 6),
    ("heic", include_bytes!("../heads/sample.heic"), 64 * 64),
    ("avif", include_bytes!("../heads/sample.avif"), 6),
];

fn of(extension: &str) -> MediaType {
    MediaType::from_extension(extension).unwrap()
}

#[test]
fn every_kind_tells() {
    for (extension, head, pixels) in SAMPLES {
        assert_eq!(
            look(of(extension), head),
            Look::Pixels(pixels),
            "{extension}"
        );
    }
    assert_eq!(look(of("pdf"), b"%PDF-1.7"), Look::NoPicture);
    assert_eq!(look(of("txt"), b""), Look::NoPicture);
}

#[test]
fn what_is_cut_or_of_another_kind_is_unreadable() {
    for (extension, head, _) in SAMPLES {
        for cut in [0, 1, 8, 13] {
            let told = look(of(extension), &head[..cut.min(head.len())]);
            let gif_head = extension == "gif" && cut >= 10;
            assert!(gif_head || told == Look::Unreadable, "{extension} {cut}");
        }
    }
    assert_eq!(look(of("png"), b"\xFF\xD8\xFF\xE0"), Look::Unreadable);
}

#[test]
fn webp_has_three_forms() {
    let mut lossless = b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2F".to_vec();
    // 14 bits of width less one, 14 of height less one.
    lossless.extend_from_slice(&(999_u32 | 499 << 14).to_le_bytes());
    assert_eq!(look(of("webp"), &lossless), Look::Pixels(1000 * 500));
    let mut extended = b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0".to_vec();
    extended.extend_from_slice(&[0xFF; 6]);
    assert_eq!(look(of("webp"), &extended), Look::Pixels(1 << 48));
}

#[test]
fn a_jpeg_is_read_past_long_segments_and_fill_bytes() {
    let mut head = vec![0xFF, 0xD8];
    for _ in 0..3 {
        head.extend_from_slice(&[0xFF, 0xFF, 0xE2, 0xFF, 0xFF]);
        head.resize(head.len() + 0xFFFF - 2, 0);
    }
    // A Huffman table is no frame header, though its marker lies among theirs.
    head.extend_from_slice(&[0xFF, 0xC4, 0, 4, 1, 2]);
    head.extend_from_slice(&[0xFF, 0xC2, 0, 17, 8, 0x10, 0, 0x20, 0, 3]);
    assert!(head.len() < HEAD_BYTES);
    assert_eq!(look(of("jpg"), &head), Look::Pixels(0x1000 * 0x2000));
    let no_frame = [
        0xFF, 0xD8, 0xFF, 0xDA, 0, 2, 0xFF, 0xC0, 0, 17, 8, 0, 1, 0, 1,
    ];
    assert_eq!(look(of("jpg"), &no_frame), Look::Unreadable);
}

#[test]
fn a_tiff_points_to_where_it_tells() {
    for (head, entries) in [
        (
            &b"MM\0*\0\x10\0\0"[..],
            "0002 0100 0004 00000001 00010000 0101 0003 00000001 00020000",
        ),
        (
            &b"II*\0\0\0\x10\0"[..],
            "0200 0001 0400 01000000 00000100 0101 0300 01000000 02000000",
        ),
    ] {
        let head = [head, &vec![0; HEAD_BYTES - 8]].concat();
        assert_eq!(look(of("tif"), &head), Look::Further(1 << 20));
        let digits: String = entries.split(' ').collect();
        let directory: Vec<u8> = (0..digits.len() / 2)
            .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        assert_eq!(pixels_at(&head, &directory), Some(65536 * 2));
        assert_eq!(pixels_at(&head, &directory[..12]), None);
        assert_eq!(pixels_at(&head, b""), None);
    }
}

#[test]
fn sizes_that_wrap_in_32_bits_do_not() {
    let mut head = SAMPLES[0].1.to_vec();
    head[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    assert_eq!(look(of("png"), &head), Look::Pixels(1 << 32));
    head[16..24].copy_from_slice(&[0xFF; 8]);
    assert_eq!(
        look(of("png"), &head),
        Look::Pixels(0xFFFF_FFFF * 0xFFFF_FFFF)
    );
}

proptest! {
    #[test]
    fn nothing_makes_it_stumble(
        sample in 0..SAMPLES.len(),
        changes in prop::collection::vec((0_usize..700, any::<u8>()), 0..20),
        length in 0_usize..700,
    ) {
        let (extension, head, _) = SAMPLES[sample];
        let mut head = head.to_vec();
        for (at, byte) in changes {
            if let Some(place) = head.get_mut(at) {
                *place = byte;
            }
        }
        head.truncate(length);
        let _ = look(of(extension), &head);
        let _ = pixels_at(&head, &head);
    }
}
