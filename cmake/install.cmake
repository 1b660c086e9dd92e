# `cmake --install build/release --prefix DIR`: the tree that the packages of tools/release hold.
include(GNUInstallDirs)
install(TARGETS pixii RUNTIME DESTINATION bin)
foreach(plugin grpc nats ucx libfabric)
  if(TARGET pixii_${plugin})
    install(TARGETS pixii_${plugin} LIBRARY DESTINATION lib/pixii)
  endif()
endforeach()
install(FILES ${CMAKE_BINARY_DIR}/libpixii_cuda.so DESTINATION lib/pixii OPTIONAL)
# What a plug-in is built against.
install(FILES include/pixii/kv_connector.h include/pixii/logits_processor.h DESTINATION include/pixii)
install(DIRECTORY models/ DESTINATION share/pixii/models
  PATTERN train EXCLUDE PATTERN "golden.*" EXCLUDE PATTERN "samples.png" EXCLUDE PATTERN README.md EXCLUDE)
install(DIRECTORY deploy/container/ DESTINATION share/pixii/container)
install(DIRECTORY deploy/prometheus DESTINATION share/pixii)
