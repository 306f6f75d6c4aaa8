/* SPDX-License-Identifier: BSD-2-Clause */
/* The maps that several tests read. */
#ifndef TESTS_DERPMAP_MAPS_H
#define TESTS_DERPMAP_MAPS_H

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

/* The incident: agents healthy, packets lost, "intermittent". */
#define MAP_BROKEN \
	"{\n" \
	"\"Regions\": {\n" \
	"\"1\": {\n" \
	"\"RegionID\": 1,\n" \
	"\"RegionCode\": \"us-west\",\n" \
	"\"RegionName\": \"US West\",\n" \
	"\"Nodes\": [\n" \
	"{\n" \
	"\"Name\": \"public-derp\",\n" \
	"\"RegionID\": 1,\n" \
	"\"HostName\": \"derp1.tailscale.com\",\n" \
	"\"CanPort80\": true\n" \
	"},\n" \
	"{\n" \
	"\"Name\": \"internal-derp\",\n" \
	"\"RegionID\": 1,\n" \
	"\"HostName\": \"internal-derp.example.com\",\n" \
	"\"DERPPort\": 8443\n" \
	"}\n" \
	"]\n" \
	"}\n" \
	"}\n" \
	"}\n"

/* Coder's manual. */
#define MAP_CODER \
	"{ \"Regions\": { \"1\": { \"RegionID\": 1, \"RegionCode\": \"myderp\"," \
	" \"RegionName\": \"My DERP\", \"Nodes\": [" \
	" { \"Name\": \"1\", \"RegionID\": 1, \"HostName\": \"your-hostname.com\" } ] } } }"

#endif
