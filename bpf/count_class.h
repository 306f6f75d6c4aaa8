/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef DT_COUNT_CLASS_H
#define DT_COUNT_CLASS_H

/* Packets by what they begin with; WireGuard's messages by their clear type. */
enum count_class {
	COUNT_OTHER,
	COUNT_WIREGUARD_1,	/* initiation */
	COUNT_WIREGUARD_2,	/* response */
	COUNT_WIREGUARD_3,
	COUNT_WIREGUARD_4,	/* data */
	COUNT_DISCO,
};

#endif
