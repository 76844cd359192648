#![expect(clippy::needless_pass_by_value, reason = "quickcheck hands its arguments over")]

use std::net::Ipv6Addr;

use quickcheck::quickcheck;

use super::*;

#[test]
fn numbers_print_and_read_as_everywhere() {
    fn holds(number: u64) -> bool {
        // All lengths, not mostly the longest.
        (0..64).map(|shift| number >> shift).all(|number| {
            let mut out = Vec::new();
            write_number(number, &mut out);
            out == number.to_string().as_bytes()
                && read_u64(&out) == Some(number)
                && read_u32(&out) == u32::try_from(number).ok()
                && read_port(&out) == u16::try_from(number).ok().filter(|&port| port != 0)
        })
    }
    quickcheck(holds as fn(u64) -> bool);
    assert!(holds(u64::MAX));
}

#[test]
fn what_is_no_number_is_refused() {
    for text in ["", "+1", "-1", " 1", "1 ", "0x1", "1.0", "١", "18446744073709551616", "99999999999999999999999"] {
        assert_eq!(read_u64(text.as_bytes()), None, "{text}");
    }
    assert_eq!(read_u32(b"4294967296"), None);
    assert_eq!(read_u32(b"007"), Some(7));
    assert_eq!(read_port(b"0"), None);
    assert_eq!(read_port(b"65536"), None);
}

#[test]
fn addresses_print_and_read_as_everywhere() {
    fn holds(ip: IpAddr) -> bool {
        let mut out = Vec::new();
        write_ip(ip, &mut out);
        out == ip.to_string().as_bytes() && read_ip(&out) == Some(ip)
    }
    quickcheck(holds as fn(IpAddr) -> bool);
    assert!(holds(Ipv4Addr::UNSPECIFIED.into()) && holds(Ipv4Addr::BROADCAST.into()));
    assert!(holds(Ipv6Addr::UNSPECIFIED.into()) && holds(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()));
}

#[test]
fn ipv4_reads_as_the_standard_library_reads_it() {
    fn holds(choices: Vec<u8>) -> bool {
        // Mostly digits and dots, or hardly any would be addresses.
        let text: Vec<u8> = choices.iter().map(|&choice| b"0125.9.1.0.25x"[usize::from(choice) % 14]).collect();
        let expected = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
        read_ipv4(&text) == expected
    }
    quickcheck(holds as fn(Vec<u8>) -> bool);
    for text in ["1.2.3.4", "0.0.0.0", "255.255.255.255", "1.2.3.", ".1.2.3", "1..2.3", "1.2.3.00", "1.2.3.4.", "1"] {
        assert_eq!(read_ipv4(text.as_bytes()), text.parse().ok(), "{text}");
    }
}

#[test]
fn what_is_no_address_is_refused() {
    for text in
        ["", "[::1]", "fe80::1%lo", "fe80::1%1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.4:5", "host", "1.2.3.256"]
    {
        assert_eq!(read_ip(text.as_bytes()), None, "{text}");
    }
    assert_eq!(read_ip(b"\xff"), None);
}

#[test]
fn version_lines_need_name_and_major() {
    assert!(is_version_line(b"VERSION\tname\t1\t0", b"name", 1));
    assert!(is_version_line(b"VERSION\tname\t1\t7\tmore", b"name", 1));
    for line in [
        &b"VERSION\tname\t2\t0"[..],
        b"VERSION\tother\t1\t0",
        b"VERSION\tname\t1",
        b"VERSION\tname\t1\tx",
        b"VERSION",
        b"",
        b"version\tname\t1\t0",
    ] {
        assert!(!is_version_line(line, b"name", 1), "{}", line.escape_ascii());
    }
}
