//! `director-std` as a process.

mod cases;

cases::tests! {
    env!("CARGO_BIN_EXE_director-std");
    serves_and_ends_when_asked
    waits_for_dovecot_and_its_auth
    makes_vanished_sockets_again_within_a_second
    second_instance_says_so
    sockets_of_a_killed_daemon_are_replaced
    reload_keeps_the_map_and_reopens_the_log
    wrong_settings_are_told_with_file_and_line
    check_prints_what_was_understood
    two_make_a_ring
    no_line_in_the_log_has_a_password
}
