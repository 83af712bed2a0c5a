//! MPEG audio (ISO/IEC 11172-3, 13818-3, and the lower rates of MPEG-2.5), AAC in ADTS
//! (ISO/IEC 14496-3, 1.A.2.2), and the ID3 tags before them.

use super::bytes::{KnownBytes, Stop};

const MPEG: &str = "audio/mpeg";
const AAC: &str = "audio/aac";

/// Frames in a row that are taken for sound where a file does not begin with one.
const FRAMES_IN_A_ROW: usize = 3;

/// Tags in a row that are passed: a file has one, and some writers put another before it.
const MOST_TAGS: usize = 8;

const TAG_HEADER_BYTES: u64 = 10;

/// The header of a frame, as far as frames of one stream agree in it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Frame {
    kind: &'static str,
    /// Version, layer and sampling rate.
    stream: [u8; 2],
    /// Its bytes, header and all; of a frame of free format none tells.
    length: Option<usize>,
}

/// A file that begins with a tag or with a frame.
pub(super) fn by_head(sample: &[u8]) -> Option<&'static str> {
    if sample.starts_with(b"ID3") {
        return Some(MPEG);
    }
    let first = frame(sample)?;
    // Where the next one lies within the sample, it has to be one of the same stream.
    let next = first.length.and_then(|length| sample.get(length..));
    match next.filter(|rest| rest.len() >= 4).map(frame) {
        None => Some(first.kind),
        Some(Some(next)) if next.stream == first.stream => Some(first.kind),
        Some(_) => None,
    }
}

/// A stream that was cut anywhere, or that bytes of another kind precede: some frames in a row.
pub(super) fn somewhere(sample: &[u8]) -> Option<&'static str> {
    (0..sample.len()).find_map(|start| {
        let mut at = start;
        let first = frame(sample.get(at..)?)?;
        for _ in 1..FRAMES_IN_A_ROW {
            at += frame(sample.get(at..)?)?.length?;
            let next = frame(sample.get(at..)?)?;
            (next.stream == first.stream).then_some(())?;
        }
        Some(first.kind)
    })
}

/// What an ID3 tag stands before (ID3v2.4.0 structure, 3.1): MPEG audio most often.
pub(super) fn behind_tags(bytes: &KnownBytes) -> Result<&'static str, Stop> {
    let mut at = 0;
    for _ in 0..MOST_TAGS {
        let start = bytes.up_to(at, 10)?;
        if !start.starts_with(b"ID3") {
            break;
        }
        let [_, _, _, _, _, flags, a, b, c, d] = bytes.array::<10>(at)?;
        let has_footer = flags & 0x10 != 0;
        // Seven bits a byte.
        let size = [a, b, c, d]
            .iter()
            .fold(0_u64, |size, byte| size << 7 | u64::from(byte & 0x7F));
        at += TAG_HEADER_BYTES + size + if has_footer { TAG_HEADER_BYTES } else { 0 };
    }
    let content = bytes.up_to(at, 4)?;
    if content.starts_with(b"fLaC") {
        return Ok("audio/flac");
    }
    Ok(frame(content).map_or(MPEG, |frame| frame.kind))
}

fn frame(bytes: &[u8]) -> Option<Frame> {
    let header = *bytes.first_chunk::<4>()?;
    (header[0] == 0xFF && header[1] & 0xE0 == 0xE0).then_some(())?;
    let layer = header[1] >> 1 & 3;
    if layer == 0 {
        adts(bytes, header)
    } else {
        mpeg(header, layer)
    }
}

fn mpeg(header: [u8; 4], layer: u8) -> Option<Frame> {
    /// Kilobits a second, by the header's index: layers II and III of MPEG-1, and of the others.
    const LAYER_2: [u16; 15] = [
        0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384,
    ];
    const LAYER_3: [u16; 15] = [
        0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
    ];
    const LOWER: [u16; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    /// Samples a second of MPEG-1, MPEG-2 and MPEG-2.5.
    const RATES: [[u32; 3]; 3] = [
        [44_100, 48_000, 32_000],
        [22_050, 24_000, 16_000],
        [11_025, 12_000, 8_000],
    ];
    let version = match header[1] >> 3 & 3 {
        3 => 0,
        2 => 1,
        0 => 2,
        _ => return None,
    };
    // Layer I is not written any more, and its header is the byte order mark of a text.
    let is_layer_3 = match layer {
        1 => true,
        2 => false,
        _ => return None,
    };
    let rates = match (version, is_layer_3) {
        (0, true) => &LAYER_3,
        (0, false) => &LAYER_2,
        _ => &LOWER,
    };
    let kilobits = u32::from(*rates.get(usize::from(header[2] >> 4))?);
    let samples_a_second = *RATES.get(version)?.get(usize::from(header[2] >> 2 & 3))?;
    // Emphasis 2 is reserved.
    (header[3] & 3 != 2).then_some(())?;
    let samples = if is_layer_3 && version > 0 { 72 } else { 144 };
    let padding = u32::from(header[2] >> 1 & 1);
    let length = samples * kilobits * 1000 / samples_a_second + padding;
    Some(Frame {
        kind: MPEG,
        stream: [header[1] & 0xFE, header[2] & 0x0C],
        length: (kilobits > 0).then_some(length as usize),
    })
}

fn adts(bytes: &[u8], header: [u8; 4]) -> Option<Frame> {
    const HEADER_BYTES: usize = 7;
    // Always 12 bits of sync, and one of 13 sampling rates.
    (header[1] & 0xF0 == 0xF0 && header[2] >> 2 & 0xF < 13).then_some(())?;
    let length = match bytes.get(3..6) {
        Some(&[high, middle, low]) => {
            let length =
                usize::from(high & 3) << 11 | usize::from(middle) << 3 | usize::from(low >> 5);
            (length >= HEADER_BYTES).then_some(())?;
            Some(length)
        }
        _ => None,
    };
    Some(Frame {
        kind: AAC,
        stream: [header[1] & 0xFE, header[2] & 0xFC],
        length,
    })
}
