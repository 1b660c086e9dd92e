pixii_fuzz(http_fuzz SRCS http_fuzz.cc DEPS pixii_wire)
pixii_fuzz(json_fuzz SRCS json_fuzz.cc DEPS pixii_wire)
pixii_fuzz(json_request_fuzz SRCS json_request_fuzz.cc DEPS pixii_frontend)
pixii_fuzz(multipart_fuzz SRCS multipart_fuzz.cc DEPS pixii_frontend)
