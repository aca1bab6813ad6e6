import logging

from govc.late_log import LateLog


def test_what_is_said_late_is_said_by_the_logger_of_that_name_and_from_where_it_was_said(caplog):
    log = LateLog("govc.somewhere")
    with caplog.at_level(logging.WARNING):
        log.warning("%d of %s", 3, "four")
        log.error("worse")
    assert [("govc.somewhere", logging.WARNING, "3 of four"), ("govc.somewhere", logging.ERROR, "worse")] == (
        caplog.record_tuples
    )
    assert {"test_late_log.py"} == {record.filename for record in caplog.records}
